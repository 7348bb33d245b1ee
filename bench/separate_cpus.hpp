// CPUs for threads that compute and others for what moves bytes, so that neither takes a core from the other.
#pragma once

#include <weft/base/error.hpp>

#include <vector>

namespace weft::bench {

// Threads and processes that the calling thread starts inherit the CPUs it has then. On destruction the
// thread gets back all that it had.
class separate_cpus {
 public:
  // `computing` of the CPUs of this process; 0: all but one. `invalid_argument` where none would be left.
  static result<separate_cpus> of_this_process(unsigned computing);
  separate_cpus(separate_cpus&& other) noexcept;
  separate_cpus& operator=(separate_cpus&& other) noexcept;
  ~separate_cpus();

  unsigned computing() const { return computing_; }
  void take_those_of_transfers() const;
  void take_those_of_computing() const;

 private:
  separate_cpus(std::vector<int> all, unsigned computing) : all_(std::move(all)), computing_(computing) {}

  std::vector<int> all_;
  unsigned computing_ = 0;
};

}  // namespace weft::bench
