#include "communicator.hpp"

#include <weft/collective/call_checks.hpp>
#include <weft/device/cuda_device.hpp>
#include <weft/device/recording.hpp>
#include <weft/kernels/cuda/ordered_sums.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

namespace weft::collective {

namespace {

// Sums that a stream is ahead of the host: a call of NCCL's waits where CUDA takes no more, at about a
// thousand kernels, and is not aborted.
constexpr unsigned most_behind = 16;

}  // namespace

nccl_communicator::nccl_communicator(std::unique_ptr<nccl_connection> connection, unsigned rank,
                                     unsigned ranks, const nccl_group_options& options)
    : rank_(rank), ranks_(ranks), options_(options), connection_(std::move(connection)) {}

result<std::unique_ptr<device_communicator>> nccl_communicator::make(
    std::unique_ptr<nccl_connection> connection, unsigned rank, unsigned ranks,
    const nccl_group_options& options) {
  std::unique_ptr<nccl_communicator> made(new nccl_communicator(std::move(connection), rank, ranks, options));
  auto stream = make_stream();
  auto staged = make_device_memory(ranks * options.group.piece_bytes);
  auto gathered = make_device_memory(ranks * options.group.piece_bytes);
  if (!stream) return tl::unexpected(stream.error());
  if (!staged) return tl::unexpected(staged.error());
  if (!gathered) return tl::unexpected(gathered.error());
  made->stream_ = std::move(*stream);
  made->staged_ = std::move(*staged);
  made->gathered_ = std::move(*gathered);
  return made;
}

nccl_communicator::~nccl_communicator() {
  cudaSetDevice(options_.device);
}

result<void> nccl_communicator::in_time(const std::function<result<void>()>& body) {
  if (!outcome_ || size() == 1) return outcome_;
  deadline_ = std::chrono::steady_clock::now() + options_.group.timeout;
  outcome_ = check(cudaSetDevice(options_.device), "choosing the device of a group");
  if (outcome_) outcome_ = body();
  if (!outcome_) connection_->abort();
  return outcome_;
}

result<void> nccl_communicator::operation(const std::function<result<void>()>& body) {
  return in_time([&]() -> result<void> {
    if (auto given = body(); !given) return given;
    return connection_->wait_for(stream_.get(), deadline_);
  });
}

void nccl_communicator::leave(const error& why) {
  if (!outcome_) return;
  outcome_ = tl::unexpected(why);
  connection_->abort();
}

result<void> nccl_communicator::settle(ncclResult_t returned, const std::string& what) const {
  return connection_->settle(returned, what, deadline_);
}

// Device memory as it is; host memory, at most what `staged_` holds, by a copy.
result<void> nccl_communicator::on_device(std::span<std::byte> bytes, copies wanted,
                                          const std::function<result<void>(std::byte*)>& body) {
  if (is_of_device(bytes.data())) return body(bytes.data());
  const auto copy = [&](void* to, const void* from, cudaMemcpyKind kind) {
    return check(cudaMemcpyAsync(to, from, bytes.size(), kind, stream_.get()), "copying for a group");
  };
  // A copy of memory that is not pinned waits for the stream: not before NCCL has ended in time.
  const auto ended = [&] { return connection_->wait_for(stream_.get(), deadline_); };
  if (wanted != copies::out) {
    if (auto before = ended(); !before) return before;
    if (auto copied = copy(staged_.get(), bytes.data(), cudaMemcpyHostToDevice); !copied) return copied;
  }
  if (auto done = body(staged_.get()); !done) return done;
  if (wanted == copies::in) return {};
  if (auto all = ended(); !all) return all;
  return copy(bytes.data(), staged_.get(), cudaMemcpyDeviceToHost);
}

result<void> nccl_communicator::all_reduce(std::span<float> values) {
  return operation([&] {
    return by_pieces(values, [&](std::span<float> piece, bool by_parts) {
      return on_device(std::as_writable_bytes(piece), copies::both, [&](std::byte* memory) {
        return reduce({reinterpret_cast<float*>(memory), piece.size()}, by_parts, stream_.get());
      });
    });
  });
}

result<void> nccl_communicator::all_reduce_behind(std::span<float> values, device::stream& stream) {
  cudaStream_t const handle = device::cuda_handle(stream);
  auto captures = cudaStreamCaptureStatusNone;
  cudaStreamIsCapturing(handle, &captures);
  const bool recorded = captures != cudaStreamCaptureStatusNone;
  if (!recorded && ++behind_ > most_behind)
    if (auto met = wait_for(stream); !met) return met;
  return in_time([&] {
    if (!recorded) connection_->watch(deadline_);
    return connection_->meanwhile([&] {
      return by_pieces(
          values, [&](std::span<float> piece, bool by_parts) { return reduce(piece, by_parts, handle); });
    });
  });
}

result<void> nccl_communicator::launch(device::recording_stream& stream, const device::recording& recorded) {
  auto watched = in_time([&]() -> result<void> {
    connection_->watch(deadline_);
    return {};
  });
  if (watched) stream.launch(recorded);
  return watched;
}

// A stream that a lost rank leaves behind ends when the communicator is aborted.
result<void> nccl_communicator::wait_for(device::stream& stream) {
  auto done = stream.wait();
  behind_ = 0;
  auto met = connection_->stop_watching();
  if (outcome_) outcome_ = std::move(met);
  return outcome_ ? done : outcome_;
}

result<void> nccl_communicator::by_pieces(std::span<float> values, const reduction& reduce) {
  const auto [by_parts, together] = summing_of(values, options_.group.piece_bytes, size());
  for (std::size_t at = 0; at < values.size(); at += together) {
    const auto piece = values.subspan(at, std::min(together, values.size() - at));
    if (auto done = reduce(piece, by_parts); !done) return done;
  }
  return {};
}

// Of the device's memory, at most what `gathered_` takes.
result<void> nccl_communicator::reduce(std::span<float> values, bool by_parts, cudaStream_t stream) {
  return by_parts ? reduce_by_parts(values.data(), values.size(), stream)
                  : reduce_at_once(values.data(), values.size(), stream);
}

result<void> nccl_communicator::reduce_at_once(float* values, std::size_t count, cudaStream_t stream) {
  auto* const all = reinterpret_cast<float*>(gathered_.get());
  const auto returned = ncclAllGather(values, all, count, ncclFloat, connection_->get(), stream);
  if (auto sent = settle(returned, "gathering values"); !sent) return sent;
  return check(kernels::cuda::sum_in_order(all, count, size(), count, values, stream), "summing");
}

result<void> nccl_communicator::reduce_by_parts(float* values, std::size_t count, cudaStream_t stream) {
  auto* const all = reinterpret_cast<float*>(gathered_.get());
  const auto begin = [&](unsigned r) { return count * r / size(); };
  const auto length = [&](unsigned r) { return begin(r + 1) - begin(r); };
  const std::size_t own = length(rank());
  const auto comm = connection_->get();
  ncclGroupStart();
  for (unsigned r = 0; r < size(); ++r) {
    const int peer = static_cast<int>(r);
    ncclSend(values + begin(r), length(r), ncclFloat, peer, comm, stream);
    ncclRecv(all + r * own, own, ncclFloat, peer, comm, stream);
  }
  if (auto sent = settle(ncclGroupEnd(), "exchanging parts"); !sent) return sent;
  float* const own_part = values + begin(rank());
  const cudaError_t summed = kernels::cuda::sum_in_order(all, own, size(), own, own_part, stream);
  if (auto done = check(summed, "summing"); !done) return done;
  ncclGroupStart();
  for (unsigned r = 0; r < size(); ++r)
    ncclBroadcast(values + begin(r), values + begin(r), length(r), ncclFloat, static_cast<int>(r), comm,
                  stream);
  return settle(ncclGroupEnd(), "collecting parts");
}

result<void> nccl_communicator::broadcast(std::span<std::byte> bytes, unsigned root) {
  if (auto good = check_root(root, size()); !good) return good;
  return operation([&]() -> result<void> {
    const std::size_t together = options_.group.piece_bytes * size();
    for (std::size_t at = 0; at < bytes.size(); at += together) {
      const auto piece = bytes.subspan(at, std::min(together, bytes.size() - at));
      const auto send = [&](std::byte* memory) {
        return settle(ncclBroadcast(memory, memory, piece.size(), ncclChar, static_cast<int>(root),
                                    connection_->get(), stream_.get()),
                      "a broadcast");
      };
      if (auto done = on_device(piece, rank() == root ? copies::in : copies::out, send); !done) return done;
    }
    return meet();  // the root returns when everybody has it
  });
}

result<void> nccl_communicator::all_gather(std::span<std::byte> all,
                                           std::span<const std::size_t> part_bytes) {
  if (auto good = check_parts(all, part_bytes, size()); !good) return good;
  return operation([&]() -> result<void> {
    const std::size_t most = *std::ranges::max_element(part_bytes);
    for (std::size_t at = 0; at < most; at += options_.group.piece_bytes)
      if (auto done = gather_piece(all, part_bytes, at); !done) return done;
    return {};
  });
}

// Of every part what begins `at` bytes behind its begin.
result<void> nccl_communicator::gather_piece(std::span<std::byte> all,
                                             std::span<const std::size_t> part_bytes, std::size_t at) {
  struct shared_piece {
    std::span<std::byte> bytes;
    unsigned root;
  };
  std::array<shared_piece, ranks_max> pieces;
  std::size_t count = 0;
  std::size_t begin = 0;
  for (unsigned r = 0; r < size(); begin += part_bytes[r++])
    if (at < part_bytes[r])
      pieces[count++] = {all.subspan(begin + at, std::min(options_.group.piece_bytes, part_bytes[r] - at)),
                         r};
  for (const auto& [bytes, root] : std::span(pieces).first(count)) {
    const auto send = [&, size = bytes.size(), from = root](std::byte* memory) {
      return settle(ncclBroadcast(memory, memory, size, ncclChar, static_cast<int>(from), connection_->get(),
                                  stream_.get()),
                    "gathering parts");
    };
    if (auto done = on_device(bytes, rank() == root ? copies::in : copies::out, send); !done) return done;
  }
  return {};
}

result<void> nccl_communicator::barrier() {
  return operation([&] { return meet(); });
}

result<void> nccl_communicator::meet() {
  auto* const value = gathered_.get();
  return settle(ncclAllReduce(value, value, 1, ncclUint8, ncclMax, connection_->get(), stream_.get()),
                "a barrier");
}

}  // namespace weft::collective
