// A device's likeness on the host, for tests: its memory is the host's, but addresses of it mean nothing
// there; a stream does nothing before it must. What reads too early, writes too early or takes one side's
// address for the other's is found out.
#pragma once

#include <weft/device/device.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace weft::device {

// What the streams of a device did.
struct stream_counts {
  std::uint64_t uploads = 0;
  std::uint64_t upload_bytes = 0;
  std::uint64_t downloads = 0;
  std::uint64_t download_bytes = 0;
  std::uint64_t copies = 0;  // on the device
  std::uint64_t kernels = 0;
  std::uint64_t waits = 0;

  // Copies and kernels.
  std::uint64_t works() const { return uploads + downloads + copies + kernels; }
};

enum class failing : std::uint8_t {
  once,
  from_then_on  // as a GPU whose context is lost
};

class host_device final : public device {
 public:
  // With that much device memory.
  static std::shared_ptr<host_device> make(std::size_t total_bytes);
  ~host_device() override;

  std::string name() const override;
  memory_size sizes() const override;
  result<std::unique_ptr<stream>> make_stream() override;

  // Of all its streams, since it was made.
  stream_counts counts() const;
  // Copies and kernels fail, in any stream: the next one for 0, or the n-th behind it.
  void fail_at(std::uint64_t n, failing how);
  void fail_no_more();

  // Where the bytes at an address of the device lie. `std::out_of_range` unless all of them are in one piece
  // of its memory; `std::invalid_argument` unless the address is a multiple of `alignment`, as a GPU's loads
  // want it.
  template <class T>
  T* at(T* address, std::size_t count = 1, std::size_t alignment = alignof(T)) const {
    return reinterpret_cast<T*>(const_cast<std::byte*>(
        find(reinterpret_cast<const std::byte*>(address), count * sizeof(T), alignment)));
  }

 private:
  explicit host_device(std::size_t total_bytes);
  std::byte* take(place where, std::size_t bytes) override;
  void release(place where, std::byte* data) noexcept override;
  const std::byte* find(const std::byte* address, std::size_t bytes, std::size_t alignment) const;

  friend class host_stream;
  // One more copy or kernel: counts it, or throws where it is to fail.
  void begin(std::uint64_t stream_counts::*kind, std::uint64_t stream_counts::*bytes,
             std::size_t count) const;
  void note_wait() const;

  struct state;
  std::unique_ptr<state> state_;
};

// Puts `work` behind what a host device's stream has to do. What it throws is told by `wait`.
void run_on_host(stream& s, std::function<void(const host_device&)> work);

// Whether the stream keeps what it is given.
bool records_on_host(const stream& s);

}  // namespace weft::device
