#include "tier_files.hpp"

#include <weft/tier/slot_header.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

namespace weft::tier {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 2> names{"headers.weft", "data.weft"};
constexpr mode_t for_the_owner = 0600;

error why(const fs::path& path, const char* what) {
  return {errc::io, std::string(what) + " " + path.string() + ": " + std::strerror(errno) +
                        "; is the folder there and writable?"};
}

// File systems may take the flag and refuse the reading.
bool reads_directly(int fd) {
  struct alignas(sector_bytes) buffer {
    sector bytes;
  };
  const auto room = std::make_unique<buffer>();
  return pread(fd, room->bytes.data(), room->bytes.size(), 0) >= 0;
}

owned_fd open_one(const fs::path& path, bool direct) {
  const int flags = O_RDWR | O_CREAT | O_CLOEXEC | (direct ? O_DIRECT : 0);
  owned_fd fd(open(path.c_str(), flags, for_the_owner));
  if (fd && direct && !reads_directly(fd.get())) return {};
  return fd;
}

// So that writing does not have to find room first, where the file system can promise it; else the file is
// as sparse as it is empty.
void reserve(int fd, std::uint64_t bytes) {
  struct stat facts {};
  if (fstat(fd, &facts) != 0 || static_cast<std::uint64_t>(facts.st_size) >= bytes) return;
  if (fallocate(fd, 0, 0, static_cast<off_t>(bytes)) == 0) return;
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return;  // then writing finds out
}

}  // namespace

owned_fd::~owned_fd() {
  if (fd_ >= 0) close(fd_);
}

errc code_of_errno(int number) {
  if (number == 0) return errc::ok;
  return number == ENOSPC || number == EDQUOT ? errc::out_of_space : errc::io;
}

result<tier_files> open_tier_files(const fs::path& folder, std::uint64_t capacity_bytes, bool direct) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  if (failed) {
    return fail(errc::io, "cannot make the folder " + folder.string() + " for the file tier: " +
                              failed.message() + "; name one that can be written in `file`");
  }
  tier_files opened;
  opened.direct = direct;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const fs::path path = folder / names[i];
    opened.files[i] = open_one(path, opened.direct);
    if (!opened.files[i] && opened.direct) return open_tier_files(folder, capacity_bytes, false);
    if (!opened.files[i]) return tl::make_unexpected(why(path, "cannot open"));
  }
  const int headers = opened.of(area::headers);
  if (flock(headers, LOCK_EX | LOCK_NB) != 0) {
    return fail(errc::overloaded, "the file tier " + folder.string() +
                                      " is used by another process; give each node a folder of its own");
  }
  struct stat facts {};
  if (fstat(headers, &facts) != 0) return tl::make_unexpected(why(folder, "cannot look at"));
  opened.header_bytes = static_cast<std::uint64_t>(facts.st_size);
  reserve(opened.of(area::data), capacity_bytes);
  return opened;
}

}  // namespace weft::tier
