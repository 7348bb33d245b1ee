// What other threads ask of whoever drives the progress loop: many writers, one reader, who may be asleep.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <mutex>
#include <stdexcept>
#include <utility>
#include <vector>

namespace weft::fabric {

template <class Command>
class submission_queue {
 public:
  submission_queue() : descriptor_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (descriptor_ < 0) throw std::runtime_error("no eventfd: out of file descriptors");
  }
  submission_queue(const submission_queue&) = delete;
  submission_queue& operator=(const submission_queue&) = delete;
  ~submission_queue() { close(descriptor_); }

  // Any thread.
  void push(Command command) {
    leave(std::move(command));
    tell();
  }
  // The same in two steps, for who brings several or becomes the reader.
  void leave(Command command) {
    const std::lock_guard lock{mutex_};
    commands_.push_back(std::move(command));
    waiting_.store(true);
  }
  void tell() const {
    if (asleep_.load()) wake();
  }

  // Any thread: ends the reader's sleep, now or the next one.
  void wake() const {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(descriptor_, &one, sizeof one);
  }

  // The reader: swaps what has come into `out`, which is empty. False: nothing.
  bool take(std::vector<Command>& out) {
    if (!waiting_.load()) return false;
    const std::lock_guard lock{mutex_};
    waiting_.store(false);
    out.swap(commands_);
    return true;
  }

  // The reader, around its sleep on `descriptor`. After `fall_asleep` every push wakes; false: something
  // came.
  bool fall_asleep() {
    asleep_.store(true);
    return !waiting_.load();
  }
  void awake() { asleep_.store(false); }
  // Ends what `wake` has told; else the next sleep ends at once.
  void hear() const {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto bytes = read(descriptor_, &count, sizeof count);
  }
  int descriptor() const { return descriptor_; }

 private:
  std::mutex mutex_;
  std::vector<Command> commands_;
  std::atomic<bool> waiting_{false};
  std::atomic<bool> asleep_{false};
  int descriptor_ = -1;
};

}  // namespace weft::fabric
