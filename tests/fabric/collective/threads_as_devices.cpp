// The calls of CUDA and NCCL that a group makes, played by threads: device memory is the host's, what is
// given to a stream is done at once, and a rank's messages lie in a mailbox. What waits for a rank that does
// not come leaves its stream busy; that a rank was aborted is an error of the others' communicators, as
// NCCL's network reports it.
#include <weft/kernels/cuda/ordered_sums.hpp>

#include "cuda/ordered_sums_body.hpp"
#include <cuda_runtime_api.h>
#include <nccl.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

constexpr int devices = 64;
constexpr int device_that_fails = 63;  // joins no group
constexpr auto patience = std::chrono::seconds{1};

std::mutex memory_mutex;
std::map<const char*, std::size_t> device_memory;  // bytes by where they begin

thread_local int current_device = 0;

// Of this thread's rank: a stream whose last operation never ends.
thread_local bool stuck = false;

struct world {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::pair<int, int>, std::deque<std::vector<char>>> messages;
  std::set<int> came;
  std::set<int> lost;
};

std::mutex worlds_mutex;
std::map<std::string, std::shared_ptr<world>> worlds;

}  // namespace

struct ncclComm {
  std::shared_ptr<world> group;
  int rank = 0;
  int ranks = 0;
  int looks_until_made = 3;
  bool peer_lost = false;
};

namespace {

std::size_t bytes_of(std::size_t count, ncclDataType_t type) {
  return type == ncclFloat ? count * sizeof(float) : count;
}

void send(ncclComm& comm, int to, const void* data, std::size_t bytes) {
  const std::scoped_lock lock(comm.group->mutex);
  if (comm.group->lost.count(to) != 0) stuck = comm.peer_lost = true;
  const auto* const first = static_cast<const char*>(data);
  comm.group->messages[{comm.rank, to}].emplace_back(first, first + bytes);
  comm.group->changed.notify_all();
}

void receive(ncclComm& comm, int from, void* data, std::size_t bytes) {
  if (stuck) return;
  std::unique_lock lock(comm.group->mutex);
  auto& queue = comm.group->messages[{from, comm.rank}];
  const auto ended = [&] { return !queue.empty() || comm.group->lost.count(from) != 0; };
  if (!comm.group->changed.wait_for(lock, patience, ended) || queue.empty()) {
    stuck = true;
    comm.peer_lost = comm.group->lost.count(from) != 0;
    return;
  }
  if (queue.front().size() != bytes) std::abort();  // a size that differs is the caller's mistake
  if (bytes > 0) std::memcpy(data, queue.front().data(), bytes);
  queue.pop_front();
}

}  // namespace

extern "C" {

cudaError_t cudaGetDeviceCount(int* count) {
  *count = devices;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return cudaErrorInvalidDevice;
  current_device = device;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t) {
  return "an error";
}
cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(new char);
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete reinterpret_cast<char*>(stream);
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t) {
  return stuck ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const std::scoped_lock lock(memory_mutex);
  *memory = std::malloc(bytes);
  device_memory[static_cast<const char*>(*memory)] = bytes;
  return cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  const std::scoped_lock lock(memory_mutex);
  device_memory.erase(static_cast<const char*>(memory));
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* pointer) {
  const std::scoped_lock lock(memory_mutex);
  const auto* const at = static_cast<const char*>(pointer);
  const auto behind = device_memory.upper_bound(at);
  const bool inside =
      behind != device_memory.begin() && at < std::prev(behind)->first + std::prev(behind)->second;
  attributes->type = inside ? cudaMemoryTypeDevice : cudaMemoryTypeUnregistered;
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (stuck) std::abort();  // memory that is not pinned: it would wait for ever
  if (bytes > 0) std::memcpy(to, from, bytes);
  return cudaSuccess;
}

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
  if (current_device == device_that_fails) return ncclSystemError;
  const std::scoped_lock lock(worlds_mutex);
  auto& group = worlds[std::string(id.internal, sizeof id.internal)];
  if (!group) group = std::make_shared<world>();
  *comm = new ncclComm{group, rank, ranks};
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
  {
    const std::scoped_lock lock(comm->group->mutex);
    comm->group->lost.insert(comm->rank);
    comm->group->changed.notify_all();
  }
  delete comm;
  return ncclSuccess;
}
ncclResult_t ncclGroupStart() {
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* data, size_t count, ncclDataType_t type, int to, ncclComm_t comm,
                      cudaStream_t) {
  send(*comm, to, data, bytes_of(count, type));
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* data, size_t count, ncclDataType_t type, int from, ncclComm_t comm,
                      cudaStream_t) {
  receive(*comm, from, data, bytes_of(count, type));
  return ncclSuccess;
}
ncclResult_t ncclBroadcast(const void* from, void* to, size_t count, ncclDataType_t type, int root,
                           ncclComm_t comm, cudaStream_t) {
  const std::size_t bytes = bytes_of(count, type);
  if (comm->rank != root) {
    receive(*comm, root, to, bytes);
    return ncclSuccess;
  }
  for (int rank = 0; rank < comm->ranks; ++rank)
    if (rank != root) send(*comm, rank, from, bytes);
  return ncclSuccess;
}
ncclResult_t ncclAllGather(const void* own, void* all, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t) {
  const std::size_t bytes = bytes_of(count, type);
  for (int rank = 0; rank < comm->ranks; ++rank)
    send(*comm, rank, own, bytes);
  for (int rank = 0; rank < comm->ranks; ++rank)
    receive(*comm, rank, static_cast<char*>(all) + static_cast<std::size_t>(rank) * bytes, bytes);
  return ncclSuccess;
}
// For barriers only: what comes out means nothing.
ncclResult_t ncclAllReduce(const void*, void*, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t comm,
                           cudaStream_t) {
  const char own = 0;
  char other = 0;
  for (int rank = 0; rank < comm->ranks; ++rank)
    send(*comm, rank, &own, 1);
  for (int rank = 0; rank < comm->ranks; ++rank)
    receive(*comm, rank, &other, 1);
  return ncclSuccess;
}

}  // extern "C"

namespace weft::kernels::cuda {

cudaError_t sum_in_order(const float* values, std::size_t stride, std::uint32_t ranks, std::size_t count,
                         float* out, cudaStream_t) {
  for (std::size_t i = 0; i < count; ++i)
    out[i] = ordered_sum(values, stride, ranks, i);
  return cudaSuccess;
}

}  // namespace weft::kernels::cuda
