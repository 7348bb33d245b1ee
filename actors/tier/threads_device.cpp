#include <weft/tier/open.hpp>

#include "file_device.hpp"
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace weft::tier {
namespace {

constexpr unsigned thread_count = 4;

// All of it, or the reason why not. `transfer` is pread or pwrite.
template <class Bytes, class Transfer>
errc move_all(int fd, std::span<Bytes> bytes, std::uint64_t offset, Transfer transfer) {
  while (!bytes.empty()) {
    const ssize_t moved = transfer(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) return code_of_errno(errno);
    if (moved == 0) return errc::io;
    bytes = bytes.subspan(static_cast<std::size_t>(moved));
    offset += static_cast<std::uint64_t>(moved);
  }
  return errc::ok;
}

class threads_device final : public device {
 public:
  explicit threads_device(tier_files files) : files_(std::move(files)) {
    for (unsigned i = 0; i < thread_count; ++i)
      threads_.emplace_back([this] { run(); });
  }

  ~threads_device() override {
    {
      const std::lock_guard lock{mutex_};
      ending_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_)
      t.join();
  }

  void read(area where, std::uint64_t offset, std::span<std::byte> into, done finished) override {
    add([this, where, offset, into, finished = std::move(finished)] {
      finished(move_all(files_.of(where), into, offset, pread));
    });
  }

  void write(area where, std::uint64_t offset, std::span<const std::byte> from, done finished) override {
    add([this, where, offset, from, finished = std::move(finished)] {
      finished(move_all(files_.of(where), from, offset, pwrite));
    });
  }

  void sync(done finished) override {
    add([this, finished = std::move(finished)] {
      const bool safe = fdatasync(files_.of(area::data)) == 0 && fdatasync(files_.of(area::headers)) == 0;
      finished(safe ? errc::ok : code_of_errno(errno));
    });
  }

  std::uint64_t header_area_bytes() const override { return files_.header_bytes; }
  std::string description() const override { return files_.direct ? "threads, direct" : "threads, buffered"; }

 private:
  void add(std::function<void()> work) {
    {
      const std::lock_guard lock{mutex_};
      waiting_.push_back(std::move(work));
    }
    changed_.notify_one();
  }

  void run() {
    while (true) {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      const auto work = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      work();
    }
  }

  tier_files files_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<device> make_threads_device(tier_files files) {
  return std::make_unique<threads_device>(std::move(files));
}

result<std::unique_ptr<device>> open_file_device(const std::filesystem::path& folder,
                                                 std::uint64_t capacity_bytes, device_options options) {
  auto files = open_tier_files(folder, capacity_bytes, options.direct);
  if (!files) return tl::make_unexpected(files.error());
  if (options.io_uring) {
    if (auto made = make_uring_device(*files, options.depth)) return made;
  }
  return make_threads_device(std::move(*files));
}

}  // namespace weft::tier
