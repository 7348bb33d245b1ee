// An NCCL communicator that never blocks its thread: what it is given is waited for until a deadline, and
// what does not end is aborted.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/time.hpp>

#include "device.hpp"
#include <nccl.h>

#include <stop_token>
#include <string>
#include <thread>

namespace weft::collective {

class nccl_connection {
 public:
  // On the current device.
  static result<nccl_connection> join(const ncclUniqueId& id, unsigned rank, unsigned ranks,
                                      time_point deadline, const std::stop_token& stop);
  nccl_connection(nccl_connection&& other) noexcept;
  nccl_connection& operator=(nccl_connection&&) = delete;
  ~nccl_connection();

  ncclComm_t get() const { return comm_; }

  // What a call of NCCL, or the end of a group of calls, returned: waits while it is in progress.
  result<void> settle(ncclResult_t returned, const std::string& what, time_point deadline,
                      const std::stop_token& stop = {}) const;

  // Waits until the stream has nothing left to do.
  result<void> wait_for(cudaStream_t stream, time_point deadline) const;

  // Ends what is under way; only destruction may follow, which waits until the communicator is gone.
  void abort();

 private:
  nccl_connection(int device, ncclComm_t comm) : device_(device), comm_(comm) {}

  int device_;
  ncclComm_t comm_ = nullptr;
  std::jthread aborting_;
};

}  // namespace weft::collective
