// A file that is read and written by a bare io_uring loop with O_DIRECT: what a file tier is measured
// against.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

namespace weft::bench {

class raw_disk {
 public:
  // Makes the file, fills it with zeros and removes its name. `io` where the folder or the kernel does not
  // allow it.
  static result<raw_disk> make(const std::filesystem::path& folder, std::uint64_t bytes, unsigned depth);
  ~raw_disk();
  raw_disk(raw_disk&&) noexcept;

  // The whole file, in pieces, `depth` of them in flight; `memory` is as long as the file and aligned to
  // 4096. False where an operation failed.
  bool read_all(std::span<std::byte> memory, std::size_t piece_bytes);
  bool write_all(std::span<std::byte> memory, std::size_t piece_bytes);  // and makes it durable

 private:
  struct state;
  explicit raw_disk(std::unique_ptr<state> s);
  bool run(std::span<std::byte> memory, std::size_t piece_bytes, bool writing);

  std::unique_ptr<state> state_;
};

}  // namespace weft::bench
