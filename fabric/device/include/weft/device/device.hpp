// A device that computes: its memory, and streams of what it is to do. The host's likeness of one is
// host_device.hpp; CUDA's is cuda_device.hpp.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace weft::device {

enum class place : std::uint8_t {
  device,
  pinned  // the host's, which copies read and write while the program goes on
};

struct memory_size {
  std::size_t free_bytes = 0;
  std::size_t total_bytes = 0;
};

class device;

// Bytes that belong to an object. `data()` of device memory means something to streams and kernels only.
// Aligned to 256 bytes, uninitialised.
class memory {
 public:
  memory() = default;
  memory(memory&& other) noexcept { swap(other); }
  memory& operator=(memory&& other) noexcept {
    memory(std::move(other)).swap(*this);
    return *this;
  }
  ~memory();

  std::byte* data() const { return data_; }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  friend class device;
  void swap(memory& other) noexcept;

  std::shared_ptr<device> owner_;
  std::byte* data_ = nullptr;
  std::size_t size_bytes_ = 0;
  place where_ = place::device;
};

// Does one thing after the other, beside the program. What is given to it stays as it is until `wait`: the
// host's memory, and the device's. One thread at a time.
class stream {
 public:
  virtual ~stream() = default;
  virtual void upload(std::byte* to, const void* from, std::size_t bytes) = 0;
  virtual void download(void* to, const std::byte* from, std::size_t bytes) = 0;
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes) = 0;  // both on the device
  // What is given to this stream from now on comes behind what the other one, of the same device, was given
  // so far, and fails where that failed. The other one lives until this one was waited for.
  virtual void after(stream& other) = 0;
  // Until all of it is done. The first thing that failed since the last wait; what came behind it was done
  // or not.
  virtual result<void> wait() = 0;
};

// Any thread may call any of these.
class device : public std::enable_shared_from_this<device> {
 public:
  virtual ~device() = default;
  virtual std::string name() const = 0;  // "cuda:0 (NVIDIA H200)"
  virtual memory_size sizes() const = 0;
  virtual result<std::unique_ptr<stream>> make_stream() = 0;

  // `out_of_space` says what the memory was for, how much was wanted and how much is free. Nothing for 0
  // bytes.
  result<memory> allocate(std::size_t bytes, std::string_view purpose);
  result<memory> allocate_pinned(std::size_t bytes, std::string_view purpose);

 private:
  friend class memory;
  // Null where there is none left.
  virtual std::byte* take(place where, std::size_t bytes) = 0;
  virtual void release(place where, std::byte* data) noexcept = 0;
  result<memory> make(place where, std::size_t bytes, std::string_view purpose);
};

}  // namespace weft::device
