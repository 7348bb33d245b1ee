#include <weft/actors/remote_context.hpp>

#include <caf/send.hpp>

#include "../float_bytes.hpp"

#include <algorithm>
#include <utility>

namespace weft::actors {

namespace {

// Transfers have deadlines of their own; this bound only catches a context actor that is gone.
constexpr auto longest_wait = std::chrono::seconds{30};

}  // namespace

remote_context::remote_context(sparse_context_plan_ptr plan, std::chrono::milliseconds patience)
    : plan_(std::move(plan)), patience_(patience), answers_(plan_->shape.layers) {}

void remote_context::attach(context_actor actor) {
  actor_ = std::move(actor);
}

void remote_context::set_rankers(std::size_t count) {
  const std::lock_guard lock{mutex_};
  rankers_ = count;
}

void remote_context::begin(std::span<const engine::block_load> loads) {
  auto order = std::make_shared<remote_loads>();
  order->loads.assign(loads.begin(), loads.end());
  order->memory = memory_.lock();
  {
    const std::lock_guard lock{mutex_};
    coming_ += loads.size();
  }
  caf::anon_send(actor_, load_atom_v, remote_loads_ptr{std::move(order)});
}

bool remote_context::arrived() {
  const std::lock_guard lock{mutex_};
  return coming_ == 0;
}

result<void> remote_context::wait() {
  std::unique_lock lock{mutex_};
  if (changed_.wait_for(lock, longest_wait, [&] { return coming_ == 0; })) return {};
  return fail(errc::deadline_exceeded, "blocks for sparse decoding did not come; try again");
}

std::vector<engine::block_load> remote_context::take_lost() {
  const std::lock_guard lock{mutex_};
  return std::exchange(lost_, {});
}

void remote_context::submit(std::span<const engine::layer_group> asked) {
  auto order = std::make_shared<remote_queries>();
  const std::size_t width = std::size_t{plan_->query_heads} * plan_->shape.head_dim;
  for (const auto& [layer, group] : asked) {
    order->steps = group.steps;
    order->layers.push_back(layer);
    std::string bytes;
    for (std::uint32_t step = 0; step < group.steps; ++step)
      bytes += bytes_of({group.queries + step * group.step_stride, width});
    order->queries.push_back(std::move(bytes));
  }
  {
    const std::lock_guard lock{mutex_};
    order->round = ++round_;
    for (const std::uint32_t layer : order->layers) {
      auto& answers = answers_[layer];
      answers = {.round = round_, .shards = {}, .open = {}, .incomplete = false};
      for (std::size_t ranker = 0; ranker < rankers_; ++ranker)
        answers.open.insert(ranker);
    }
  }
  caf::anon_send(actor_, rank_atom_v, remote_queries_ptr{std::move(order)});
}

bool remote_context::collect(std::uint32_t layer, std::span<float> scores) {
  std::unique_lock lock{mutex_};
  auto& answers = answers_[layer];
  if (!changed_.wait_for(lock, patience_, [&] { return has_answers(layer); }))
    doubtful_.insert(answers.open.begin(), answers.open.end());
  policies::retrieval::merge_shards(answers.shards, scores);
  return answers.open.empty() && !answers.incomplete;
}

// Of everybody that is waited for.
bool remote_context::has_answers(std::uint32_t layer) const {
  return std::ranges::includes(doubtful_, answers_[layer].open);
}

bool remote_context::when_ranked(std::uint32_t layer, std::function<void()> ready) {
  const std::lock_guard lock{mutex_};
  if (has_answers(layer)) return false;
  awaited_layer_ = layer;
  ready_ = std::move(ready);
  return true;
}

bool remote_context::take_back() {
  std::unique_lock lock{mutex_};
  if (std::exchange(ready_, nullptr)) return true;
  changed_.wait(lock, [&] { return !calling_; });
  return false;
}

// What changed, to those who wait and to who wanted to be called.
void remote_context::tell(std::unique_lock<std::mutex> lock) {
  if (ready_ && has_answers(awaited_layer_)) {
    calling_ = true;
    const auto ready = std::exchange(ready_, nullptr);
    lock.unlock();
    ready();
    lock.lock();
    calling_ = false;
  }
  lock.unlock();
  changed_.notify_all();
}

void remote_context::loaded(std::size_t count, std::vector<engine::block_load> lost) {
  {
    const std::lock_guard lock{mutex_};
    coming_ -= std::min(count, coming_);
    lost_.insert(lost_.end(), lost.begin(), lost.end());
  }
  changed_.notify_all();
}

void remote_context::ranked(std::uint64_t round, std::size_t ranker, std::uint32_t layer,
                            policies::retrieval::shard_scores scores) {
  std::unique_lock lock{mutex_};
  doubtful_.erase(ranker);
  auto& answers = answers_[layer];
  if (answers.round != round || answers.open.erase(ranker) == 0) return;
  answers.shards.push_back(std::move(scores));
  tell(std::move(lock));
}

void remote_context::ranking_failed(std::uint64_t round, std::size_t ranker,
                                    std::span<const std::uint32_t> layers) {
  std::unique_lock lock{mutex_};
  for (const std::uint32_t layer : layers) {
    auto& answers = answers_[layer];
    if (answers.round == round && answers.open.erase(ranker) > 0) answers.incomplete = true;
  }
  tell(std::move(lock));
}

}  // namespace weft::actors
