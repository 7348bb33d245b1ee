#include "own_scorer.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace retrieval = policies::retrieval;

sparse_context::own_scorer::own_scorer(std::unique_ptr<retrieval::block_ranker> ranker, runner& model,
                                       std::size_t blocks)
    : ranker_(std::move(ranker)),
      model_(model),
      blocks_(blocks),
      width_(std::size_t{model.config().query_heads} * model.config().head_dim),
      scores_(model.config().layers * blocks) {}

sparse_context::own_scorer::~own_scorer() {
  finish();
}

void sparse_context::own_scorer::submit(std::span<const layer_group> asked) {
  finish();
  keep(asked);
  if (asked.size() > 1 && are_few()) away_ = model_.threads().begin_beside(task_);
}

bool sparse_context::own_scorer::collect(std::uint32_t layer, std::span<float> scores) {
  if (!calling_) {
    finish();
    rank_all(model_.threads());
  }
  std::ranges::copy(std::span(scores_).subspan(layer * blocks_, blocks_), scores.begin());
  return true;
}

bool sparse_context::own_scorer::when_ranked(std::uint32_t, std::function<void()> ready) {
  if (model_.threads().threads() == 1 || !are_few()) return false;
  ready_ = std::move(ready);
  away_ = model_.threads().begin_beside(task_);
  return true;
}

// It is ranked by now, and whoever waited was called.
bool sparse_context::own_scorer::take_back() {
  finish();
  return false;
}

void sparse_context::own_scorer::keep(std::span<const layer_group> asked) {
  std::size_t steps = 0;
  for (const layer_group& one : asked)
    steps += one.group.steps;
  queries_.resize(steps * width_);
  asked_.clear();
  float* to = queries_.data();
  for (const auto& [layer, group] : asked) {
    asked_.push_back({layer, {to, group.steps, width_}});
    for (std::uint32_t step = 0; step < group.steps; ++step)
      to = std::copy_n(group.queries + step * group.step_stride, width_, to);
  }
}

// Whether a layer's blocks are ranked on one thread anyway, since others would come too late.
bool sparse_context::own_scorer::are_few() {
  constexpr std::size_t most_bytes = std::size_t{1} << 18;  // times lines of queries
  const auto& config = model_.config();
  if (!layer_bytes_) layer_bytes_ = ranker_->allocated_bytes() / config.layers;
  std::size_t steps = 0;
  for (const layer_group& one : asked_)
    steps = std::max<std::size_t>(steps, one.group.steps);
  return *layer_bytes_ * steps * (config.query_heads / config.kv_heads) <= most_bytes;
}

void sparse_context::own_scorer::rank_all(kernels::thread_pool& pool) {
  for (const auto& [layer, group] : asked_) {
    ranker_->score(layer, group, shard_, pool);
    retrieval::merge_shards({&shard_, 1}, std::span(scores_).subspan(layer * blocks_, blocks_));
  }
  asked_.clear();
}

void sparse_context::own_scorer::rank_beside() {
  rank_all(alone_);
  if (!ready_) return;
  // Nobody else collects before this task is finished.
  calling_ = true;
  std::exchange(ready_, nullptr)();
  calling_ = false;
}

void sparse_context::own_scorer::finish() {
  if (std::exchange(away_, false)) model_.threads().finish_beside();
}

}  // namespace weft::engine
