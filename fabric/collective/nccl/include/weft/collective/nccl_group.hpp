// Groups of processes that compute together, over NCCL: a GPU for each rank.
//
//   auto id = make_nccl_group_id();                           // one of the processes
//   ... it comes to all, by whatever way ...
//   auto group = join_nccl_group(*id, rank, ranks, options);  // every process, at about the same time
//
// The calls are those of every communicator, and so are their results: sums are taken in the order of the
// ranks. Memory may be the device's (or managed), which is read and written in place, or the host's, which
// is copied by pieces. A call waits for what it has given the device, but for `all_reduce_behind`; for what
// others have put there the caller waits first.
//
// Calls of one rank whose sizes differ from another's are not noticed: they cost the timeout, or give what
// means nothing.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/time.hpp>
#include <weft/collective/device_communicator.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <stop_token>
#include <string>

namespace weft::collective {

struct nccl_group_options {
  group_options group = {};
  int device = 0;                                    // of this process
  duration join_timeout = std::chrono::seconds{30};  // until all ranks are there
  std::stop_token stop = {};                         // ends joining sooner
};

// `unsupported` where weft was built without NCCL, or there is no CUDA device of this number.
result<void> find_nccl(int device);

inline constexpr std::size_t nccl_id_bytes = 132;

// Opaque bytes, nccl_id_bytes of them, new for every group. `unsupported` where there is no
// CUDA device.
result<std::string> make_nccl_group_id();

// `unsupported` where there is no such device, `invalid_argument` for an id, rank or size that cannot be one,
// `deadline_exceeded` and `unreachable` where not everybody came, `cancelled` when it was stopped. A rank
// that is lost is noticed by NCCL's network at once, else by the timeout. After any error the communicator is
// aborted; who is left makes a new id and joins without the lost rank.
result<std::unique_ptr<device_communicator>> join_nccl_group(const std::string& id, unsigned rank,
                                                             unsigned ranks,
                                                             const nccl_group_options& options = {});

}  // namespace weft::collective
