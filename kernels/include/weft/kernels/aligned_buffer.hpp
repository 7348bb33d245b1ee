// Memory for vectors and big streams: 64-byte aligned; from 2 MiB on, aligned and advised for huge pages.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace weft::kernels {

class aligned_buffer {
 public:
  aligned_buffer() = default;
  // Uninitialised. Throws std::bad_alloc.
  explicit aligned_buffer(std::size_t size_bytes);

  std::byte* data() { return bytes_.get(); }
  const std::byte* data() const { return bytes_.get(); }
  std::size_t size_bytes() const { return size_bytes_; }

 private:
  struct release {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte[], release> bytes_;
  std::size_t size_bytes_ = 0;
};

// Scratch memory that grows to the largest request and stays: after the first pass of a shape, operations
// that take one allocate nothing. One operation at a time.
class workspace {
 public:
  // Uninitialised, 64-byte aligned; valid until the next call.
  std::span<std::byte> reserve(std::size_t size_bytes);

 private:
  aligned_buffer buffer_;
};

}  // namespace weft::kernels
