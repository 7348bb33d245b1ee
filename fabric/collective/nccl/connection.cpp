#include "connection.hpp"

#include <chrono>
#include <thread>
#include <utility>

namespace weft::collective {

namespace {

errc code_of(ncclResult_t status) {
  switch (status) {
    case ncclRemoteError:
    case ncclSystemError:
      return errc::unreachable;
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return errc::invalid_argument;
    default:
      return errc::internal;
  }
}

tl::unexpected<error> late(const std::string& what) {
  return fail(errc::deadline_exceeded,
              what + " did not end in time: a rank of the group is lost or late; make one without it");
}

// Looks again and again: first at once, since a sum takes microseconds and a decode step some milliseconds.
class patience {
 public:
  explicit patience(time_point deadline) : began_(std::chrono::steady_clock::now()), deadline_(deadline) {}

  // False when the time is over.
  bool wait() const {
    constexpr auto at_once = std::chrono::milliseconds{10};
    const auto now = std::chrono::steady_clock::now();
    if (now - began_ > at_once) std::this_thread::sleep_for(std::chrono::microseconds{20});
    return now < deadline_;
  }

 private:
  time_point began_;
  time_point deadline_;
};

}  // namespace

result<nccl_connection> nccl_connection::join(const ncclUniqueId& id, unsigned rank, unsigned ranks,
                                              time_point deadline, const std::stop_token& stop) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t returned =
      ncclCommInitRankConfig(&comm, static_cast<int>(ranks), id, static_cast<int>(rank), &config);
  int device = 0;
  cudaGetDevice(&device);
  nccl_connection made(device, comm);
  if (auto met = made.settle(returned, "joining a group of " + std::to_string(ranks) + " ranks over NCCL",
                             deadline, stop);
      !met)
    return tl::unexpected(met.error());
  return made;
}

nccl_connection::nccl_connection(nccl_connection&& other) noexcept
    : device_(other.device_),
      comm_(std::exchange(other.comm_, nullptr)),
      aborting_(std::move(other.aborting_)) {}

nccl_connection::~nccl_connection() {
  abort();
}

// NCCL first tells what runs on the device to end, then waits until no recording holds what it was given:
// whoever has one may be this thread.
void nccl_connection::abort() {
  if (comm_ == nullptr) return;
  aborting_ = std::jthread([device = device_, comm = std::exchange(comm_, nullptr)] {
    cudaSetDevice(device);
    ncclCommAbort(comm);
  });
}

result<void> nccl_connection::settle(ncclResult_t returned, const std::string& what, time_point deadline,
                                     const std::stop_token& stop) const {
  const patience looks(deadline);
  while (returned == ncclInProgress) {
    if (const auto asked = ncclCommGetAsyncError(comm_, &returned); asked != ncclSuccess) returned = asked;
    if (returned != ncclInProgress) break;
    if (stop.stop_requested()) return fail(errc::cancelled, what + " was given up");
    if (!looks.wait()) return late(what);
  }
  if (returned == ncclSuccess) return {};
  return fail(code_of(returned), what + ": NCCL says " + ncclGetErrorString(returned));
}

result<void> nccl_connection::wait_for(cudaStream_t stream, time_point deadline) const {
  const patience looks(deadline);
  while (true) {
    const cudaError_t state = cudaStreamQuery(stream);
    if (state == cudaSuccess) return {};
    if (state != cudaErrorNotReady) return check(state, "an operation of a group");
    ncclResult_t failed = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(comm_, &failed);
    if (asked != ncclSuccess) failed = asked;
    if (failed != ncclSuccess && failed != ncclInProgress)
      return fail(code_of(failed), std::string("a rank of the group is lost: NCCL says ") +
                                       ncclGetErrorString(failed) + "; make a group without it");
    if (!looks.wait()) return late("an operation of a group");
  }
}

}  // namespace weft::collective
