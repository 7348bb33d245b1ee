#include <weft/launcher/run_folder.hpp>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <utility>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

tl::unexpected<error> fail_io(const std::string& what, const fs::path& path) {
  return fail(errc::io, "cannot " + what + " " + path.string() + ": " + std::strerror(errno));
}

std::string read_small_file(int fd) {
  std::array<char, 256> bytes{};
  const auto n = pread(fd, bytes.data(), bytes.size(), 0);
  std::string text(bytes.data(), n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  return text;
}

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto n = write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

fs::path default_run_folder(const fs::path& cluster_file) {
  const auto path = fs::weakly_canonical(fs::absolute(cluster_file)).string();
  std::array<char, 17> digits{};
  std::snprintf(digits.data(), digits.size(), "%016llx",
                static_cast<unsigned long long>(XXH3_64bits(path.data(), path.size())));
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  std::error_code ignored;
  if (runtime != nullptr && *runtime == '/' && fs::is_directory(runtime, ignored)) {
    return fs::path(runtime) / "weft" / digits.data();
  }
  return fs::path("/tmp") / ("weft-" + std::to_string(getuid())) / digits.data();
}

namespace {

// A folder of someone else in /tmp would let them put files in the way.
result<void> make_own_folder(const fs::path& path, bool may_be_root_s) {
  struct stat facts {};
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_io("make the run folder", path);
  if (stat(path.c_str(), &facts) != 0) return fail_io("look at the run folder", path);
  if (!S_ISDIR(facts.st_mode)) {
    return fail(errc::io,
                "run folder " + path.string() + " is no folder; remove it or name another run_folder");
  }
  const bool own = facts.st_uid == geteuid() || (may_be_root_s && facts.st_uid == 0);
  const bool open_to_all = (facts.st_mode & 0022) != 0 && (facts.st_mode & S_ISVTX) == 0;
  if (own && !open_to_all) return {};
  return fail(errc::io, "run folder " + path.string() +
                            " can be changed by another user; remove it or name another run_folder");
}

}  // namespace

result<void> create_run_folder(const fs::path& folder) {
  if (auto above = make_own_folder(folder.parent_path(), true); !above) return above;
  return make_own_folder(folder, false);
}

result<void> write_address(const fs::path& folder, std::string_view name, const host_port& address) {
  const auto path = folder / name;
  const auto draft = folder / (std::string(name) + "." + std::to_string(getpid()));
  const int fd = open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return fail_io("write", draft);
  const bool written = write_all(fd, to_string(address) + "\n");
  close(fd);
  if (!written || rename(draft.c_str(), path.c_str()) != 0) return fail_io("write", path);
  return {};
}

result<host_port> read_address(const fs::path& folder, std::string_view name) {
  std::ifstream file(folder / name);
  std::string line;
  if (!std::getline(file, line)) {
    return fail(errc::not_found, "no " + std::string(name) + " address in " + folder.string() +
                                     ": no cluster runs from there; `weft up` starts it");
  }
  return parse_host_port(line);
}

pid_file::pid_file(int fd, fs::path path) : fd_(fd), path_(std::move(path)) {}

pid_file::pid_file(pid_file&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), path_(std::move(other.path_)) {}

pid_file::~pid_file() {
  remove();
}

void pid_file::remove() {
  if (fd_ < 0) return;
  unlink(path_.c_str());
  close(std::exchange(fd_, -1));
}

result<pid_file> pid_file::acquire(const fs::path& folder) {
  const auto path = folder / "pid";
  const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0) return fail_io("open", path);
  pid_file file(fd, path);
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    const auto holder = read_small_file(fd);
    file.disown();
    return fail(errc::invalid_argument,
                "this cluster runs already, as process " + holder + "; `weft down` stops it");
  }
  if (auto written = file.write_own_pid(); !written) return tl::unexpected(written.error());
  return file;
}

result<void> pid_file::write_own_pid() {
  const auto text = std::to_string(getpid()) + "\n";
  if (ftruncate(fd_, 0) != 0 ||
      pwrite(fd_, text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return fail_io("write", path_);
  }
  return {};
}

void pid_file::disown() {
  close(std::exchange(fd_, -1));
}

std::optional<pid_t> running_pid(const fs::path& folder) {
  const int fd = open((folder / "pid").c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  const bool held = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  const auto text = read_small_file(fd);
  close(fd);
  pid_t pid = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), pid);
  if (!held || status != std::errc{} || end != text.data() + text.size() || pid <= 0) return std::nullopt;
  return pid;
}

}  // namespace weft::launcher
