// One process's part of a group that runs a model: its end of the group and its shard of the model, and what
// all ranks do in the same way. One thread at a time.
#pragma once

#include <weft/collective/device_communicator.hpp>
#include <weft/engine/generation.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/shared_blocks.hpp>

#include "rank_orders.hpp"

#include <atomic>
#include <memory>
#include <span>
#include <vector>

namespace weft::actors {

// A group whose ranks are known before it is joined: a shard is loaded for it, and then all meet.
class coming_group final : public collective::device_communicator {
 public:
  coming_group(unsigned rank, unsigned size) : rank_(rank), size_(size) {}

  void join(std::unique_ptr<collective::communicator> group) {
    group_ = std::move(group);
    devices_ = dynamic_cast<collective::device_communicator*>(group_.get());
  }

  unsigned rank() const override { return rank_; }
  unsigned size() const override { return size_; }
  result<void> all_reduce(std::span<float> values) override { return group_->all_reduce(values); }
  result<void> broadcast(std::span<std::byte> bytes, unsigned root) override {
    return group_->broadcast(bytes, root);
  }
  result<void> all_gather(std::span<std::byte> all, std::span<const std::size_t> part_bytes) override {
    return group_->all_gather(all, part_bytes);
  }
  result<void> barrier() override { return group_->barrier(); }
  bool sums_on_devices() const override { return devices_ != nullptr && devices_->sums_on_devices(); }
  result<void> all_reduce_behind(std::span<float> values, device::stream& stream) override {
    return devices_->all_reduce_behind(values, stream);
  }
  result<void> launch(device::recording_stream& stream, const device::recording& recorded) override {
    return devices_->launch(stream, recorded);
  }
  result<void> wait_for(device::stream& stream) override { return devices_->wait_for(stream); }
  void leave(const error& why) override {
    if (devices_ != nullptr) devices_->leave(why);
  }

 private:
  unsigned rank_;
  unsigned size_;
  std::unique_ptr<collective::communicator> group_;
  collective::device_communicator* devices_ = nullptr;  // the same
};

struct model_rank {
  std::unique_ptr<coming_group> group;
  std::unique_ptr<engine::runner> model;  // uses the group
};

// This rank's part of [layer][kv_head] of the whole model.
std::vector<std::uint32_t> own_rows(const engine::runner& model, std::span<const std::uint32_t> whole);

// What follows an order, on every rank alike: errors that one rank has all have.
result<engine::kv_cache> open_together(model_rank& rank, const open_ranks& order);
// `fetched` is looked at on rank 0. `corrupt`: a block did not prove itself.
result<void> load_together(model_rank& rank, engine::kv_cache& cache, const load_ranks& order,
                           const engine::fetched_blocks& fetched);

// Of all heads, on every rank.
result<std::vector<float>> queries_together(model_rank& rank, const query_ranks& order);

// Carries out what rank 0 orders, until the group ends or `stop` is set, which is looked at after each order.
result<void> follow(model_rank& rank, std::span<const engine::token_id> stop_tokens,
                    const std::atomic<bool>& stop);

}  // namespace weft::actors
