#include "mapped_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

namespace weft::engine {

namespace {

class descriptor {
 public:
  explicit descriptor(int number) : number_(number) {}
  descriptor(const descriptor&) = delete;
  descriptor& operator=(const descriptor&) = delete;
  ~descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  int number() const { return number_; }

 private:
  int number_;
};

tl::unexpected<error> io_failure(const std::filesystem::path& file, int code) {
  return fail(errc::io, "cannot read " + file.string() + ": " + std::generic_category().message(code));
}

}  // namespace

result<std::shared_ptr<mapped_file>> mapped_file::open(const std::filesystem::path& file) {
  const descriptor opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (opened.number() < 0) {
    if (errno == ENOENT)
      return fail(errc::not_found, "no " + file.string() + "; the model folder is incomplete");
    return io_failure(file, errno);
  }
  struct stat status {};
  if (::fstat(opened.number(), &status) != 0) return io_failure(file, errno);
  if (!S_ISREG(status.st_mode)) return fail(errc::invalid_argument, file.string() + " is no regular file");
  if (status.st_size == 0) return fail(errc::corrupt, file.string() + " is empty; copy or download it again");
  const auto size_bytes = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size_bytes, PROT_READ, MAP_PRIVATE, opened.number(), 0);
  if (address == MAP_FAILED) return io_failure(file, errno);
  return std::make_shared<mapped_file>(address, size_bytes);
}

mapped_file::~mapped_file() {
  ::munmap(address_, size_bytes_);
}

std::span<const std::byte> mapped_file::aligned(std::span<const std::byte> part, std::size_t alignment) {
  if (reinterpret_cast<std::uintptr_t>(part.data()) % alignment == 0) return part;
  copies_.emplace_back(part.begin(), part.end());
  return copies_.back();
}

}  // namespace weft::engine
