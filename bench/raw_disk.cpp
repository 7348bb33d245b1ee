#include "raw_disk.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {
namespace {

constexpr std::size_t alignment = 4096;

struct alignas(alignment) page {
  std::byte bytes[alignment]{};
};

bool fill(int fd, std::uint64_t bytes) {
  // In one piece, as the file tier asks for; a file system that cannot promise it finds room while writing.
  (void)fallocate(fd, 0, 0, static_cast<off_t>(bytes));
  const std::vector<page> zeros(256);
  const std::size_t piece = zeros.size() * alignment;
  for (std::uint64_t at = 0; at < bytes; at += piece) {
    const auto length = std::min<std::uint64_t>(piece, bytes - at);
    if (pwrite(fd, zeros.data(), length, static_cast<off_t>(at)) != static_cast<ssize_t>(length))
      return false;
  }
  return fdatasync(fd) == 0;
}

}  // namespace

struct raw_disk::state {
  int fd = -1;
  io_uring ring{};
  unsigned depth = 0;
  bool ring_made = false;

  ~state() {
    if (ring_made) io_uring_queue_exit(&ring);
    if (fd >= 0) close(fd);
  }
};

raw_disk::raw_disk(std::unique_ptr<state> s) : state_(std::move(s)) {}
raw_disk::~raw_disk() = default;
raw_disk::raw_disk(raw_disk&&) noexcept = default;

result<raw_disk> raw_disk::make(const std::filesystem::path& folder, std::uint64_t bytes, unsigned depth) {
  const auto path = folder / ("weft-bench-" + std::to_string(getpid()));
  auto made = std::make_unique<state>();
  made->depth = depth;
  made->fd = open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_DIRECT, 0600);
  if (made->fd < 0)
    return fail(errc::io, "cannot make " + path.string() + " for direct I/O: " + std::strerror(errno) +
                              "; name a folder on a disk with --folder");
  unlink(path.c_str());
  if (!fill(made->fd, bytes))
    return fail(errc::io, "cannot write " + std::to_string(bytes) + " bytes to " + folder.string() + ": " +
                              std::strerror(errno));
  if (io_uring_queue_init(depth, &made->ring, 0) != 0)
    return fail(errc::io, "the kernel does not allow io_uring here, so there is nothing to measure against");
  made->ring_made = true;
  return raw_disk(std::move(made));
}

bool raw_disk::read_all(std::span<std::byte> memory, std::size_t piece_bytes) {
  return run(memory, piece_bytes, false);
}

bool raw_disk::write_all(std::span<std::byte> memory, std::size_t piece_bytes) {
  return run(memory, piece_bytes, true) && fdatasync(state_->fd) == 0;
}

bool raw_disk::run(std::span<std::byte> memory, std::size_t piece_bytes, bool writing) {
  std::size_t next = 0;
  unsigned in_flight = 0;
  bool good = true;
  while (next < memory.size() || in_flight > 0) {
    while (next < memory.size() && in_flight < state_->depth) {
      io_uring_sqe* sqe = io_uring_get_sqe(&state_->ring);
      const auto length = static_cast<unsigned>(std::min(piece_bytes, memory.size() - next));
      if (writing) {
        io_uring_prep_write(sqe, state_->fd, memory.data() + next, length, next);
      } else {
        io_uring_prep_read(sqe, state_->fd, memory.data() + next, length, next);
      }
      io_uring_sqe_set_data64(sqe, length);
      next += length;
      ++in_flight;
    }
    io_uring_submit_and_wait(&state_->ring, 1);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&state_->ring, &cqe) == 0) {
      good = good && cqe->res == static_cast<int>(io_uring_cqe_get_data64(cqe));
      io_uring_cqe_seen(&state_->ring, cqe);
      --in_flight;
    }
  }
  return good;
}

}  // namespace weft::bench
