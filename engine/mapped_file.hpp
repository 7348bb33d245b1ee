// A file mapped read-only into memory, with aligned copies of the few tensors that lie unaligned in it.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

class mapped_file {
 public:
  static result<std::shared_ptr<mapped_file>> open(const std::filesystem::path& file);
  mapped_file(void* address, std::size_t size_bytes) : address_(address), size_bytes_(size_bytes) {}
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file();

  std::span<const std::byte> bytes() const { return {static_cast<const std::byte*>(address_), size_bytes_}; }

  // The same bytes at an address that is a multiple of `alignment`; they live as long as this file.
  std::span<const std::byte> aligned(std::span<const std::byte> part, std::size_t alignment);

 private:
  void* address_ = nullptr;
  std::size_t size_bytes_ = 0;
  std::vector<std::vector<std::byte>> copies_;
};

}  // namespace weft::engine
