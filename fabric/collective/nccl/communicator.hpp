// The operations of a group over one NCCL communicator.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/collective/nccl_group.hpp>

#include "connection.hpp"
#include "device.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

namespace weft::collective {

class nccl_communicator final : public device_communicator {
 public:
  static result<std::unique_ptr<device_communicator>> make(std::unique_ptr<nccl_connection> connection,
                                                           unsigned rank, unsigned ranks,
                                                           const nccl_group_options& options);
  ~nccl_communicator() override;

  unsigned rank() const override { return rank_; }
  unsigned size() const override { return ranks_; }
  result<void> all_reduce(std::span<float> values) override;
  result<void> broadcast(std::span<std::byte> bytes, unsigned root) override;
  result<void> all_gather(std::span<std::byte> all, std::span<const std::size_t> part_bytes) override;
  result<void> barrier() override;
  bool sums_on_devices() const override { return true; }
  result<void> all_reduce_behind(std::span<float> values, device::stream& stream) override;
  result<void> launch(device::recording_stream& stream, const device::recording& recorded) override;
  result<void> wait_for(device::stream& stream) override;
  void leave(const error& why) override;

 private:
  nccl_communicator(std::unique_ptr<nccl_connection> connection, unsigned rank, unsigned ranks,
                    const nccl_group_options& options);

  enum class copies : std::uint8_t { in = 1, out = 2, both = 3 };

  result<void> in_time(const std::function<result<void>()>& body);
  result<void> operation(const std::function<result<void>()>& body);
  result<void> on_device(std::span<std::byte> bytes, copies wanted,
                         const std::function<result<void>(std::byte*)>& body);
  result<void> settle(ncclResult_t returned, const std::string& what) const;
  using reduction = std::function<result<void>(std::span<float> piece, bool by_parts)>;
  result<void> by_pieces(std::span<float> values, const reduction& reduce);
  result<void> reduce(std::span<float> values, bool by_parts, cudaStream_t stream);
  result<void> reduce_at_once(float* values, std::size_t count, cudaStream_t stream);
  result<void> reduce_by_parts(float* values, std::size_t count, cudaStream_t stream);
  result<void> gather_piece(std::span<std::byte> all, std::span<const std::size_t> part_bytes,
                            std::size_t at);
  result<void> meet();

  const unsigned rank_;
  const unsigned ranks_;
  const nccl_group_options options_;
  unique_stream stream_;
  device_memory staged_;                         // of host memory: piece_bytes per rank
  device_memory gathered_;                       // what ranks sent: piece_bytes per rank
  std::unique_ptr<nccl_connection> connection_;  // ends before what it uses
  unsigned behind_ = 0;                          // sums, since a stream was waited for
  time_point deadline_;
  result<void> outcome_;  // of all calls so far
};

}  // namespace weft::collective
