#include <weft/engine/adaptive/session.hpp>
#include <weft/kernels/attention_weights.hpp>
#include <weft/kernels/convert.hpp>

#include "adaptive/passive_pages.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace adaptive = policies::adaptive;

namespace {

constexpr std::uint64_t steps_between_flushes = 64;

}  // namespace

adaptive_session::adaptive_session(runner& model, row_page_pool& pool,
                                   std::unique_ptr<adaptive::cache_policy> policy, passive_store* store)
    : model_(model),
      pool_(pool),
      policy_(std::move(policy)),
      needs_(policy_->needs()),
      shape_(session_shape_of(model.config())),
      staged_(model.cache_shape(), 1),
      runs_(shape_.heads()),
      slots_(shape_.kv_heads),
      weights_(shape_.kv_heads) {
  if (needs_.recalls && store == nullptr)
    throw std::invalid_argument("a policy that takes rows back needs a passive store");
  if (needs_.recalls)
    passive_ = std::make_unique<passive_pages>(model, pool, *store, needs_.sketch_bits, counters_);
  for (std::size_t head = 0; head < shape_.heads(); ++head)
    heads_.emplace_back(pool);
}

adaptive_session::~adaptive_session() = default;

std::size_t adaptive_session::head_of(std::uint32_t layer, std::uint32_t kv_head) const {
  return std::size_t{layer} * shape_.kv_heads + kv_head;
}

result<void> adaptive_session::start(kv_cache& whole, const prompt_record& record,
                                     std::span<const std::uint8_t> kinds) {
  if (auto home = whole.bring_home(); !home) return home;
  std::vector<float> sums;
  if (needs_.prompt_window > 0) {
    auto found = record.sums(needs_.prompt_window);
    if (!found) return tl::unexpected(found.error());
    sums = std::move(*found);
  }
  if (needs_.hidden && record.hidden(0).empty())
    return fail(errc::unsupported, "the prompt's hidden states were not recorded; record them");
  tokens_ = record.tokens();
  feed_prompt(whole, record, kinds);
  policy_->prompt({tokens_, sums});
  fill(whole);
  return {};
}

void adaptive_session::feed_prompt(kv_cache& whole, const prompt_record& record,
                                   std::span<const std::uint8_t> kinds) {
  policy_->kinds(0, kinds);
  const std::size_t width = std::size_t{tokens_} * shape_.head_dim;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    if (needs_.hidden) policy_->hidden(layer, 0, tokens_, record.hidden(layer).data());
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      keys_.resize(needs_.keys ? width : 0);
      values_.resize(keys_.size());
      kernels::to_f32(whole.shape().dtype, whole.k(layer, head), keys_.data(), keys_.size());
      kernels::to_f32(whole.shape().dtype, whole.v(layer, head), values_.data(), values_.size());
      policy_->new_rows(static_cast<std::uint32_t>(head_of(layer, head)), 0, tokens_, {keys_, values_});
    }
  }
  std::vector<float> weights;
  std::vector<adaptive::head_weights> seen;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t row = std::min(needs_.prompt_replay, tokens_); row-- > 0;) {
      record.weights_of(layer, row, weights);
      seen.clear();
      const std::size_t size = weights.size() / shape_.kv_heads;
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
        seen.push_back({std::span(weights).subspan(head * size, size)});
      policy_->observe(layer, seen);
    }
}

void adaptive_session::fill(kv_cache& whole) {
  const std::size_t row_bytes = pool_.row_bytes();
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
      const std::size_t head = head_of(layer, h);
      for (const std::uint32_t token : policy_->resident(static_cast<std::uint32_t>(head))) {
        heads_[head].append(token, whole.k(layer, h) + token * row_bytes,
                            whole.v(layer, h) + token * row_bytes);
      }
      if (!passive_) continue;
      keys_.resize(std::size_t{tokens_} * shape_.head_dim);
      kernels::to_f32(whole.shape().dtype, whole.k(layer, h), keys_.data(), keys_.size());
      passive_->fit(head, keys_);
      // A copy: the list shrinks as its rows are stored.
      const auto leaving = policy_->leaving(static_cast<std::uint32_t>(head));
      for (const std::uint32_t token : std::vector(leaving.begin(), leaving.end()))
        passive_->add(head, token, whole.k(layer, h) + token * row_bytes,
                      whole.v(layer, h) + token * row_bytes, *policy_);
    }
  if (passive_) passive_->flush(*policy_);
  for (std::size_t head = 0; head < shape_.heads(); ++head) {
    runs_[head].clear();
    heads_[head].add_runs(runs_[head]);
  }
}

result<void> adaptive_session::step(token_id token, std::uint8_t kind, std::span<float> logits) {
  const std::uint8_t kinds[] = {kind};
  policy_->kinds(tokens_, kinds);
  batch_.clear();
  batch_.add(token, static_cast<std::int32_t>(tokens_), 0);
  if (!logits.empty()) batch_.logits_rows.push_back(0);
  kv_cache* const caches[] = {&staged_};
  next_layer_ = asked_layers_ = 0;
  if (auto done = model_.forward(batch_, caches, logits, this); !done) return done;
  keep_staged_rows();
  ++tokens_;
  ++counters_.steps;
  carry_out(policy_->decide());
  if (passive_ && counters_.steps % steps_between_flushes == 0) passive_->flush(*policy_);
  return {};
}

void adaptive_session::layer_input(std::uint32_t layer, std::uint32_t, std::uint32_t rows,
                                   const float* normed) {
  if (needs_.hidden) policy_->hidden(layer, tokens_, rows, normed);
}

void adaptive_session::layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t, const float* q,
                                     std::size_t) {
  next_layer_ = layer + 1;
  if (passive_ && asked_layers_ <= layer) recall(layer, q, false);
  if (passive_) finish_recall();
  add_staged_row(layer);
  choose_runs(layer, q);
  if (needs_.weights && policy_->watches(layer)) observe(layer, q);
  if (everything_ != nullptr) measure(layer, q);
}

// Asked once a layer, for the one behind it.
bool adaptive_session::wants_queries_ahead() const {
  return passive_ && policy_->looks_ahead(next_layer_);
}

void adaptive_session::queries_ahead(std::uint32_t layer, std::uint32_t, std::uint32_t, const float* q,
                                     std::size_t) {
  recall(layer, q, true);
}

void adaptive_session::recall(std::uint32_t layer, const float* q, bool ahead) {
  asked_layers_ = layer + 1;
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    runs_[head_of(layer, h)].clear();
    heads_[head_of(layer, h)].add_runs(runs_[head_of(layer, h)]);
  }
  passive_->begin(layer, std::span(runs_).subspan(head_of(layer, 0), shape_.kv_heads), q, ahead, *policy_);
}

void adaptive_session::finish_recall() {
  passive_->finish(heads_, *policy_);
}

void adaptive_session::add_staged_row(std::uint32_t layer) {
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    keys_.resize(needs_.keys ? shape_.head_dim : 0);
    values_.resize(keys_.size());
    kernels::to_f32(staged_.shape().dtype, staged_.k(layer, h), keys_.data(), keys_.size());
    kernels::to_f32(staged_.shape().dtype, staged_.v(layer, h), values_.data(), values_.size());
    policy_->new_rows(static_cast<std::uint32_t>(head_of(layer, h)), tokens_, 1, {keys_, values_});
  }
}

void adaptive_session::choose_runs(std::uint32_t layer, const float* q) {
  if (needs_.attends)
    policy_->attended(layer, {q, std::size_t{shape_.query_heads} * shape_.head_dim}, slots_);
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    const auto& rows = heads_[head_of(layer, h)];
    auto& runs = runs_[head_of(layer, h)];
    runs.clear();
    if (!needs_.attends) {
      rows.add_runs(runs);
      continue;
    }
    // The staged row comes by itself.
    if (!slots_[h].empty() && slots_[h].back() == rows.rows()) slots_[h].pop_back();
    rows.add_runs(slots_[h], runs);
  }
}

void adaptive_session::observe(std::uint32_t layer, const float* q) {
  std::vector<kernels::weighed_head> heads;
  std::vector<adaptive::head_weights> seen;
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    auto& runs = runs_[head_of(layer, h)];
    runs.push_back({staged_.k(layer, h), nullptr, 1});
    weights_[h].resize(std::size_t{shape_.group()} * (heads_[head_of(layer, h)].rows() + 1));
    heads.push_back(
        {q + std::size_t{h} * shape_.group() * shape_.head_dim, runs, weights_[h].data(), nullptr});
    seen.push_back({weights_[h]});
  }
  kernels::attention_weights(model_.attention(), heads, model_.threads());
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h)
    runs_[head_of(layer, h)].pop_back();
  policy_->observe(layer, seen);
}

// The share of the whole attention's exponentials that lies on the rows which are read.
void adaptive_session::measure(std::uint32_t layer, const float* q) {
  const std::size_t row_bytes = pool_.row_bytes();
  const std::size_t group = shape_.group();
  std::vector<float> read(shape_.query_heads), all(shape_.query_heads);
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    const std::uint32_t row = tokens_;
    std::memcpy(everything_->k(layer, h) + row * row_bytes, staged_.k(layer, h), row_bytes);
    auto runs = runs_[head_of(layer, h)];
    runs.push_back({staged_.k(layer, h), nullptr, 1});
    const kernels::kv_run whole{everything_->k(layer, h), nullptr, row + 1};
    const float* const own = q + h * group * shape_.head_dim;
    const kernels::weighed_head heads[] = {{own, runs, nullptr, read.data() + h * group},
                                           {own, {&whole, 1}, nullptr, all.data() + h * group}};
    kernels::attention_weights(model_.attention(), heads, model_.threads());
  }
  for (std::size_t i = 0; i < read.size(); ++i)
    attention_sum_ += std::exp(double{read[i]} - double{all[i]});
  attention_count_ += read.size();
}

void adaptive_session::measure_attention(kv_cache& everything) {
  everything_ = &everything;
}

double adaptive_session::recalled_attention() const {
  return attention_count_ == 0 ? 1.0 : attention_sum_ / static_cast<double>(attention_count_);
}

std::span<const kernels::kv_run> adaptive_session::more_rows(std::uint32_t layer, const kv_cache&,
                                                             std::uint32_t kv_head) {
  return runs_[head_of(layer, kv_head)];
}

void adaptive_session::keep_staged_rows() {
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
      heads_[head_of(layer, h)].append(tokens_, staged_.k(layer, h), staged_.v(layer, h));
      staged_.set_rows(layer, h, 0);
    }
}

void adaptive_session::carry_out(std::span<const adaptive::removed_row> removed) {
  for (const auto& row : removed) {
    auto& rows = heads_[row.head];
    if (passive_ && !row.stored)
      passive_->add(row.head, row.token, rows.k(row.slot), rows.v(row.slot), *policy_);
    rows.remove(row.slot);
  }
  counters_.removed_rows += removed.size();
}

std::uint64_t adaptive_session::resident_rows() const {
  std::uint64_t rows = 0;
  for (const auto& head : heads_)
    rows += head.rows();
  return rows;
}

std::size_t adaptive_session::row_bytes() const {
  return static_cast<std::size_t>(resident_rows()) * 2 * pool_.row_bytes();
}

std::size_t adaptive_session::summary_bytes() const {
  return passive_ ? passive_->summary_bytes() : 0;
}

std::size_t adaptive_session::state_bytes() const {
  std::size_t bytes = policy_->state_bytes() + staged_.allocated_bytes();
  for (const auto& head : heads_)
    bytes += head.rows() * sizeof(std::uint32_t);
  return bytes + (passive_ ? passive_->state_bytes() : 0);
}

}  // namespace weft::engine
