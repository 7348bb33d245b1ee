// The two files of a tier's folder, opened and locked.
#pragma once

#include <weft/base/error.hpp>
#include <weft/tier/device.hpp>

#include <array>
#include <cstdint>
#include <filesystem>
#include <utility>

namespace weft::tier {

// A file descriptor; closed at destruction.
class owned_fd {
 public:
  owned_fd() = default;
  explicit owned_fd(int fd) : fd_(fd) {}
  owned_fd(owned_fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  owned_fd& operator=(owned_fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~owned_fd();

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

struct tier_files {
  std::array<owned_fd, 2> files;  // by area; the first is locked
  bool direct = false;
  std::uint64_t header_bytes = 0;  // of the header file

  int of(area where) const { return files[static_cast<std::size_t>(where)].get(); }
};

// `direct`: with O_DIRECT where both files take it.
result<tier_files> open_tier_files(const std::filesystem::path& folder, std::uint64_t capacity_bytes,
                                   bool direct);

// `ok`, `out_of_space` or `io` for an errno.
errc code_of_errno(int number);

}  // namespace weft::tier
