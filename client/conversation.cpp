#include "conversation.hpp"

#include <utility>

namespace weft::client {

bool conversation::post(std::function<void()> step) {
  const std::lock_guard lock(mutex_);
  if (finished_) return false;
  steps_.push_back(std::move(step));
  changed_.notify_one();
  return true;
}

void conversation::finish() {
  const std::lock_guard lock(mutex_);
  finished_ = true;
  changed_.notify_one();
}

void conversation::wait() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return finished_ || !steps_.empty(); });
    if (steps_.empty()) return;
    const auto step = std::move(steps_.front());
    steps_.pop_front();
    lock.unlock();
    step();
    lock.lock();
  }
}

}  // namespace weft::client
