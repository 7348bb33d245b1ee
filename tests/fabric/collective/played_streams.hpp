// A CUDA stream that a thread plays: what it is given is done at once, or kept where it captures. What waits
// for a rank that does not come leaves it stuck: nothing that comes behind is done.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

namespace weft::collective::testing {

struct played_stream {
  std::atomic<bool> stuck = false;
  bool captures = false;
  std::vector<std::function<void()>> captured;
};

inline played_stream& played(cudaStream_t stream) {
  return *reinterpret_cast<played_stream*>(stream);
}

inline void give(cudaStream_t stream, std::function<void()> work) {
  if (played(stream).captures)
    played(stream).captured.push_back(std::move(work));
  else if (!played(stream).stuck)
    work();
}

inline std::mutex stuck_mutex;
inline std::condition_variable stuck_changed;

// By stuck_mutex. Whoever waited goes on, and the streams may be gone.
inline void release(const std::set<played_stream*>& streams) {
  for (played_stream* stream : streams)
    stream->stuck = false;
  stuck_changed.notify_all();
}

inline void wait_until_free(played_stream& stream) {
  std::unique_lock lock(stuck_mutex);
  stuck_changed.wait(lock, [&] { return !stream.stuck; });
}

}  // namespace weft::collective::testing
