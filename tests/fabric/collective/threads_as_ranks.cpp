// The calls of NCCL that a group makes, played by threads: a rank's messages lie in a mailbox. What waits for
// a rank that does not come leaves its stream stuck until the communicator is aborted; that a rank was
// aborted is an error of the others' communicators, as NCCL's network reports it. What NCCL asks of its
// callers is asked for: an operation is captured on all ranks or on none, what is launched comes of the same
// capture of all, and a communicator goes when the graphs that captured its operations are gone.
#include "played_streams.hpp"
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

using weft::collective::testing::give;
using weft::collective::testing::played;
using weft::collective::testing::played_stream;
using weft::collective::testing::release;
using weft::collective::testing::stuck_mutex;

namespace {

constexpr int device_that_fails = 63;  // joins no group
constexpr auto patience = std::chrono::seconds{1};

struct message {
  std::vector<char> bytes;
  int captured = 0;
};

struct world {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<message>> messages;
  std::set<int> came;
  std::set<int> lost;
};

// Within ncclGroupStart and ncclGroupEnd: all of it is one operation.
thread_local bool in_group = false;
thread_local bool group_was_captured = false;

std::mutex held_mutex;
std::condition_variable held_changed;

std::mutex worlds_mutex;
std::map<std::string, std::shared_ptr<world>> worlds;

void refuse(const char* why) {
  std::cerr << "NCCL's caller is wrong: " << why << '\n';
  std::abort();
}

}  // namespace

struct ncclComm {
  std::shared_ptr<world> group;
  int rank = 0;
  int ranks = 0;
  int looks_until_made = 3;
  std::atomic<bool> peer_lost = false;
  int captured = 0;      // operations, or groups of them, so far
  int graphs = 0;        // that hold one, times how many; by `held_mutex`
  bool aborted = false;  // by stuck_mutex, as what is stuck
  std::set<played_stream*> stuck;
};

namespace {

std::size_t bytes_of(std::size_t count, ncclDataType_t type) {
  return type == ncclFloat ? count * sizeof(float) : count;
}

// An operation of a communicator in a stream; `number` of those that were captured.
struct operation {
  ncclComm& comm;
  played_stream& stream;
  int number = 0;

  void stick() const {
    const std::scoped_lock lock(stuck_mutex);
    if (comm.aborted) return;
    stream.stuck = true;
    comm.stuck.insert(&stream);
  }
  void send(int to, const void* data, std::size_t bytes) const {
    const std::scoped_lock lock(comm.group->mutex);
    if (comm.group->lost.count(to) != 0) {
      comm.peer_lost = true;
      stick();
    }
    const auto* const first = static_cast<const char*>(data);
    comm.group->messages[{comm.rank, to}].push_back({{first, first + bytes}, number});
    comm.group->changed.notify_all();
  }
  void receive(int from, void* data, std::size_t bytes) const {
    if (stream.stuck) return;
    std::unique_lock lock(comm.group->mutex);
    auto& queue = comm.group->messages[{from, comm.rank}];
    const auto& lost = comm.group->lost;
    const auto ended = [&] { return !queue.empty() || lost.count(from) != 0 || lost.count(comm.rank) != 0; };
    if (!comm.group->changed.wait_for(lock, patience, ended) || queue.empty()) {
      comm.peer_lost = lost.count(from) != 0;
      return stick();
    }
    const auto& [sent, captured] = queue.front();
    if (sent.size() != bytes) refuse("ranks differ in a size");
    if (captured != number) refuse("an operation that was captured met one that was not, or another one");
    if (bytes > 0) std::memcpy(data, sent.data(), bytes);
    queue.pop_front();
  }
};

// A graph that holds an operation of a communicator.
struct hold {
  explicit hold(ncclComm& c) : comm(c) {
    const std::scoped_lock lock(held_mutex);
    ++comm.graphs;
  }
  hold(const hold&) = delete;
  hold& operator=(const hold&) = delete;
  ~hold() {
    const std::scoped_lock lock(held_mutex);
    --comm.graphs;
    held_changed.notify_all();
  }
  ncclComm& comm;
};

template <class Body>
ncclResult_t run(ncclComm_t comm, cudaStream_t stream, Body body) {
  played_stream& in = played(stream);
  if (!in.captures) {
    if (!in.stuck) body(operation{*comm, in});
    return ncclSuccess;
  }
  if (!in_group || !std::exchange(group_was_captured, true)) ++comm->captured;
  const operation captured{*comm, in, comm->captured};
  give(stream, [body, captured, held = std::make_shared<hold>(*comm)] { body(captured); });
  return ncclSuccess;
}

}  // namespace

extern "C" {

const char* ncclGetErrorString(ncclResult_t) {
  return "an error";
}
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next = 0;
  std::memset(id->internal, 0, sizeof id->internal);
  const int number = ++next;
  std::memcpy(id->internal, &number, sizeof number);
  return ncclSuccess;
}
ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t*) {
  *comm = nullptr;
  int device = 0;
  cudaGetDevice(&device);
  if (device == device_that_fails) return ncclSystemError;
  const std::scoped_lock lock(worlds_mutex);
  auto& group = worlds[std::string(id.internal, sizeof id.internal)];
  if (!group) group = std::make_shared<world>();
  auto made = std::make_unique<ncclComm>();
  made->group = group;
  made->rank = rank;
  made->ranks = ranks;
  *comm = made.release();
  const std::scoped_lock coming(group->mutex);
  group->came.insert(rank);
  return ncclInProgress;
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  *error = comm->peer_lost ? ncclRemoteError : ncclSuccess;
  if (comm->looks_until_made == 0) return ncclSuccess;
  const std::scoped_lock lock(comm->group->mutex);
  const bool all_came = comm->group->came.size() == static_cast<std::size_t>(comm->ranks);
  if (!all_came || --comm->looks_until_made > 0) *error = ncclInProgress;
  return ncclSuccess;
}
ncclResult_t ncclCommAbort(ncclComm_t comm) {
  const std::unique_ptr<ncclComm> ended(comm);
  {
    const std::scoped_lock lock(ended->group->mutex);
    ended->group->lost.insert(ended->rank);
    ended->group->changed.notify_all();
  }
  {
    const std::scoped_lock lock(stuck_mutex);
    ended->aborted = true;
    release(ended->stuck);
  }
  std::unique_lock lock(held_mutex);
  held_changed.wait(lock, [&] { return ended->graphs == 0; });
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  in_group = true;
  group_was_captured = false;
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  in_group = false;
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int to, ncclComm_t comm,
                      cudaStream_t stream) {
  return run(comm, stream, [=](const operation& now) { now.send(to, data, bytes_of(count, type)); });
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int from, ncclComm_t comm,
                      cudaStream_t stream) {
  return run(comm, stream, [=](const operation& now) { now.receive(from, data, bytes_of(count, type)); });
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t stream) {
  return run(comm, stream, [=](const operation& now) {
    const std::size_t bytes = bytes_of(count, type);
    if (now.comm.rank != root) return now.receive(root, to, bytes);
    for (int rank = 0; rank < now.comm.ranks; ++rank)
      if (rank != root) now.send(rank, from, bytes);
  });
}
ncclResult_t ncclAllGather(const void* own, void* all, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream) {
  return run(comm, stream, [=](const operation& now) {
    const std::size_t bytes = bytes_of(count, type);
    for (int rank = 0; rank < now.comm.ranks; ++rank)
      now.send(rank, own, bytes);
    for (int rank = 0; rank < now.comm.ranks; ++rank)
      now.receive(rank, static_cast<char*>(all) + static_cast<std::size_t>(rank) * bytes, bytes);
  });
}
// For barriers only: what comes out means nothing.
ncclResult_t ncclAllReduce(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t stream) {
  return run(comm, stream, [](const operation& now) {
    const char own = 0;
    char other = 0;
    for (int rank = 0; rank < now.comm.ranks; ++rank)
      now.send(rank, &own, 1);
    for (int rank = 0; rank < now.comm.ranks; ++rank)
      now.receive(rank, &other, 1);
  });
}

}  // extern "C"
