// A device's likeness on the host, for tests: its memory is the host's, but addresses of it mean nothing
// there; a stream does nothing before it must. What reads too early, writes too early or takes one side's
// address for the other's is found out.
#pragma once

#include <weft/device/device.hpp>

#include <cstddef>
#include <functional>
#include <memory>

namespace weft::device {

class host_device final : public device {
 public:
  // With that much device memory.
  static std::shared_ptr<host_device> make(std::size_t total_bytes);
  ~host_device() override;

  std::string name() const override;
  memory_size sizes() const override;
  result<std::unique_ptr<stream>> make_stream() override;

  // Where the bytes at an address of the device lie. `std::out_of_range` unless all of them are in one piece
  // of its memory.
  template <class T>
  T* at(T* address, std::size_t count = 1) const {
    return reinterpret_cast<T*>(
        const_cast<std::byte*>(find(reinterpret_cast<const std::byte*>(address), count * sizeof(T))));
  }

 private:
  explicit host_device(std::size_t total_bytes);
  std::byte* take(place where, std::size_t bytes) override;
  void release(place where, std::byte* data) noexcept override;
  const std::byte* find(const std::byte* address, std::size_t bytes) const;

  struct state;
  std::unique_ptr<state> state_;
};

// Puts `work` behind what a host device's stream has to do. What it throws is told by `wait`.
void run_on_host(stream& s, std::function<void(const host_device&)> work);

}  // namespace weft::device
