// A context whose middle blocks stay in the pool, as the engine sees it: asks, waits, and gives up in time.
// Behind it is a `context_actor`, which speaks to the other nodes.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_calls.hpp>
#include <weft/base/time.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/policies/retrieval/shard_scores.hpp>

#include <caf/actor_system.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace weft::actors {

// The slots lie in `memory`, which lives until they are written.
struct remote_loads {
  std::vector<engine::block_load> loads;
  std::shared_ptr<const void> memory;
};

struct remote_queries {
  std::uint64_t round = 0;
  std::uint32_t steps = 0;
  std::vector<std::uint32_t> layers;
  std::vector<std::string> queries;  // by layer: f32 [step][query_head][head_dim]
};

// Called by the engine's thread (`begin` to `take_back`) and by the context actor's, which also calls what
// waits for a ranking.
class remote_context final : public engine::block_source, public engine::block_scorer {
 public:
  // `patience`: how long a ranking is waited for.
  remote_context(sparse_context_plan_ptr plan, std::chrono::milliseconds patience);

  const sparse_context_plan& plan() const { return *plan_; }
  const sparse_context_plan_ptr& shared_plan() const { return plan_; }

  // Before the engine's first call: who carries it out, and who ranks how many.
  void attach(context_actor actor);
  void set_rankers(std::size_t count);
  // What the slots of coming loads lie in.
  void set_memory(std::weak_ptr<const void> memory) { memory_ = std::move(memory); }

  void begin(std::span<const engine::block_load> loads) override;
  bool arrived() override;
  result<void> wait() override;
  std::vector<engine::block_load> take_lost() override;
  void submit(std::span<const engine::layer_group> asked) override;
  bool collect(std::uint32_t layer, std::span<float> scores) override;
  bool when_ranked(std::uint32_t layer, std::function<void()> ready) override;
  bool take_back() override;

  // -- the context actor's side --
  void loaded(std::size_t count, std::vector<engine::block_load> lost);
  // One ranker's scores of one layer.
  void ranked(std::uint64_t round, std::size_t ranker, std::uint32_t layer,
              policies::retrieval::shard_scores scores);
  // It will not answer that round.
  void ranking_failed(std::uint64_t round, std::size_t ranker, std::span<const std::uint32_t> layers);

 private:
  struct layer_answers {
    std::uint64_t round = 0;
    std::vector<policies::retrieval::shard_scores> shards;
    std::set<std::size_t> open;  // rankers that have not answered
    bool incomplete = false;
  };

  bool has_answers(std::uint32_t layer) const;
  void tell(std::unique_lock<std::mutex> lock);

  const sparse_context_plan_ptr plan_;
  const std::chrono::milliseconds patience_;
  context_actor actor_;
  std::weak_ptr<const void> memory_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t coming_ = 0;
  std::vector<engine::block_load> lost_;
  std::size_t rankers_ = 0;
  std::uint64_t round_ = 0;
  std::set<std::size_t> doubtful_;      // did not answer in time, and not since
  std::vector<layer_answers> answers_;  // by layer
  std::uint32_t awaited_layer_ = 0;
  std::function<void()> ready_;  // empty: nobody waits to be called
  bool calling_ = false;
};

struct context_parts {
  pool_actor pool;
  fabric_actor fabric;
  std::shared_ptr<staging> room;
  std::shared_ptr<node_calls> calls;
  cluster_ptr now;
  duration read_timeout{};
  caf::actor_addr owner;  // with whom it ends at the latest
};

// Of one session; `number` names it to the retrieval nodes.
context_actor spawn_context(caf::actor_system& system, context_parts parts, remote_context_ptr context,
                            std::uint64_t number);

}  // namespace weft::actors
