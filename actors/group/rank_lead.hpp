// The leading rank of a group: what its engine is about to do, it tells the others first.
#pragma once

#include <weft/actors/local_messages.hpp>

#include "model_rank.hpp"

#include <atomic>
#include <memory>
#include <span>

namespace weft::actors {

// Used by the engine's thread; `lost` and `give_up` by any.
class rank_lead {
 public:
  explicit rank_lead(model_rank rank) : rank_(std::move(rank)) {}

  engine::runner& model() { return *rank_.model; }

  // The group's own: whatever fails afterwards fails because of that. Sessions are gone with it.
  bool lost() const { return lost_; }
  // A rank is known to be dead; the group may not have noticed yet.
  void give_up() { lost_ = true; }

  result<engine::kv_cache> open(std::uint64_t session, const session_order& order);

  // Out of these blocks, or computed where there are none. `corrupt`: a block did not prove itself when it
  // had come to all.
  result<void> load(std::uint64_t session, engine::kv_cache& cache, const document_to_load& document,
                    std::span<const block::view> views);

  // Of the whole model's heads.
  result<std::vector<float>> queries(const query_order& order);

  // Right before this rank does it.
  result<void> generate(const generate_order& order);
  result<void> step() { return give(order_kind::step, {}); }
  void close(std::uint64_t session);

  // Shows the others that this rank lives, and finds out whether they do.
  void beat() { (void)give(order_kind::idle, {}); }

 private:
  result<void> give(order_kind kind, std::span<const std::byte> fields);

  model_rank rank_;
  std::atomic<bool> lost_ = false;
};

}  // namespace weft::actors
