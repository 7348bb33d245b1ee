// An NCCL communicator that never blocks its thread for longer than it may: what it is given is waited for
// until a deadline, and what does not end is aborted.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/time.hpp>

#include "device.hpp"
#include <nccl.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

namespace weft::collective {

class nccl_connection {
 public:
  // On the current device.
  static result<std::unique_ptr<nccl_connection>> join(const ncclUniqueId& id, unsigned rank, unsigned ranks,
                                                       time_point deadline, const std::stop_token& stop);
  nccl_connection(const nccl_connection&) = delete;
  nccl_connection& operator=(const nccl_connection&) = delete;
  ~nccl_connection();  // waits until the communicator is gone

  ncclComm_t get() const { return comm_; }

  // What a call of NCCL, or the end of a group of calls, returned: waits while it is in progress.
  result<void> settle(ncclResult_t returned, const std::string& what, time_point deadline,
                      const std::stop_token& stop = {}) const;

  // From here on, unless it is so already, any call of CUDA's may wait for what other ranks have to do. One
  // that NCCL finds lost, or that is late, ends all of it: the communicator is aborted, from a thread of its
  // own.
  void watch(time_point deadline);
  // Calls of NCCL's in between.
  result<void> meanwhile(const std::function<result<void>()>& calls);
  // What was found since.
  result<void> stop_watching();

  // Waits until the stream has nothing left to do.
  result<void> wait_for(cudaStream_t stream, time_point deadline);

  // Ends what is under way; only destruction may follow.
  void abort();

 private:
  nccl_connection(int device, ncclComm_t comm);
  result<void> look(time_point deadline) const;
  void keep_watch();

  const int device_;
  const ncclComm_t comm_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<time_point> watched_until_;
  result<void> found_;
  bool aborted_ = false;
  std::jthread watcher_;
};

}  // namespace weft::collective
