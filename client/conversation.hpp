// The caller's side of one call: it waits on its own thread, and runs there what the event thread hands over.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace weft::client {

class conversation {
 public:
  // From the event thread. False once the call has ended: nobody will run it.
  bool post(std::function<void()> step);
  // Ends `wait` after all that was posted before.
  void finish();

  // On the caller's thread: runs what is posted until `finish`.
  void wait();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> steps_;
  bool finished_ = false;
};

}  // namespace weft::client
