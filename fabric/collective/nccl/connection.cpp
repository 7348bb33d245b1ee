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

// Looks again and again: first at once, since most things take microseconds.
class patience {
 public:
  explicit patience(time_point deadline) : deadline_(deadline) {}

  // False when the time is over.
  bool wait() {
    constexpr int looks_at_once = 2000;
    if (++looks_ < looks_at_once) return true;
    std::this_thread::sleep_for(std::chrono::microseconds{20});
    return std::chrono::steady_clock::now() < deadline_;
  }

 private:
  time_point deadline_;
  int looks_ = 0;
};

}  // namespace

result<std::unique_ptr<nccl_connection>> nccl_connection::join(const ncclUniqueId& id, unsigned rank,
                                                               unsigned ranks, time_point deadline,
                                                               const std::stop_token& stop) {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  ncclComm_t comm = nullptr;
  const ncclResult_t returned =
      ncclCommInitRankConfig(&comm, static_cast<int>(ranks), id, static_cast<int>(rank), &config);
  int device = 0;
  cudaGetDevice(&device);
  std::unique_ptr<nccl_connection> made(new nccl_connection(device, comm));
  if (auto met = made->settle(returned, "joining a group of " + std::to_string(ranks) + " ranks over NCCL",
                              deadline, stop);
      !met)
    return tl::unexpected(met.error());
  return made;
}

nccl_connection::nccl_connection(int device, ncclComm_t comm)
    : device_(device), comm_(comm), watcher_([this] { keep_watch(); }) {}

nccl_connection::~nccl_connection() {
  abort();
}

void nccl_connection::abort() {
  const std::scoped_lock lock(mutex_);
  aborted_ = true;
  changed_.notify_one();
}

// NCCL first tells what runs on the device to end, then waits until no recording holds what it was given:
// whoever has one goes on meanwhile.
void nccl_connection::keep_watch() {
  constexpr auto between_looks = std::chrono::milliseconds{1};
  cudaSetDevice(device_);
  std::unique_lock lock(mutex_);
  while (!aborted_) {
    if (!watched_until_) {
      changed_.wait(lock);
      continue;
    }
    found_ = look(*watched_until_);
    aborted_ = !found_;
    if (!aborted_) changed_.wait_for(lock, between_looks);
  }
  lock.unlock();
  if (comm_ != nullptr) ncclCommAbort(comm_);
}

result<void> nccl_connection::look(time_point deadline) const {
  ncclResult_t failed = ncclSuccess;
  if (const auto asked = ncclCommGetAsyncError(comm_, &failed); asked != ncclSuccess) failed = asked;
  if (failed != ncclSuccess && failed != ncclInProgress)
    return fail(code_of(failed), std::string("a rank of the group is lost: NCCL says ") +
                                     ncclGetErrorString(failed) + "; make a group without it");
  if (std::chrono::steady_clock::now() > deadline) return late("an operation of a group");
  return {};
}

void nccl_connection::watch(time_point deadline) {
  const std::scoped_lock lock(mutex_);
  if (watched_until_) return;
  watched_until_ = deadline;
  changed_.notify_one();
}

result<void> nccl_connection::meanwhile(const std::function<result<void>()>& calls) {
  const std::scoped_lock lock(mutex_);
  return found_ ? calls() : found_;
}

result<void> nccl_connection::stop_watching() {
  const std::scoped_lock lock(mutex_);
  watched_until_.reset();
  return found_;
}

result<void> nccl_connection::wait_for(cudaStream_t stream, time_point deadline) {
  watch(deadline);
  auto done = check(cudaStreamSynchronize(stream), "an operation of a group");
  auto met = stop_watching();
  return met ? done : met;
}

result<void> nccl_connection::settle(ncclResult_t returned, const std::string& what, time_point deadline,
                                     const std::stop_token& stop) const {
  patience looks(deadline);
  while (returned == ncclInProgress) {
    if (const auto asked = ncclCommGetAsyncError(comm_, &returned); asked != ncclSuccess) returned = asked;
    if (returned != ncclInProgress) break;
    if (stop.stop_requested()) return fail(errc::cancelled, what + " was given up");
    if (!looks.wait()) return late(what);
  }
  if (returned == ncclSuccess) return {};
  return fail(code_of(returned), what + ": NCCL says " + ncclGetErrorString(returned));
}

}  // namespace weft::collective
