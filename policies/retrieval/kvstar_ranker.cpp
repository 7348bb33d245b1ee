#include <weft/kernels/flush_to_zero.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include "retrieval/rankers.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

namespace weft::policies::retrieval {

namespace {

// The held blocks of one document for one (layer, KV head): channels are the document's own.
struct document_vectors {
  std::vector<std::uint32_t> channels;
  kernels::score_tiles tiles;
};

class kvstar_ranker final : public block_ranker {
 public:
  kvstar_ranker(const options& chosen, ranked_context context)
      : chosen_(chosen),
        context_(std::move(context)),
        channels_(kept_channels(context_.shape.head_dim, chosen.dim_ratio)),
        merged_(merged_vectors(chosen.block_tokens, chosen.token_merge)) {
    first_held_.assign(context_.documents.size() + 1, 0);
    for (const std::uint32_t block : context_.held)
      ++first_held_[context_.middle[block].document + 1];
    for (std::size_t i = 1; i < first_held_.size(); ++i)
      first_held_[i] += first_held_[i - 1];
    vectors_.resize(std::size_t{context_.shape.layers} * context_.shape.kv_heads * context_.documents.size());
  }

  void add_keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t document,
                std::span<const float> keys) override;
  void add_reduced(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t middle_block,
                   std::span<const std::uint32_t> channels, std::span<const float> vectors) override;
  void score(std::uint32_t layer, const query_group& group, shard_scores& out,
             kernels::thread_pool& pool) override;

  std::size_t allocated_bytes() const override {
    std::size_t bytes = 0;
    for (const document_vectors& held : vectors_)
      bytes += held.tiles.size_bytes() + held.channels.size() * sizeof(std::uint32_t);
    return bytes;
  }

 private:
  document_vectors& vectors_of(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t document) {
    return vectors_[(std::size_t{layer} * context_.shape.kv_heads + kv_head) * context_.documents.size() +
                    document];
  }
  std::uint32_t held_blocks(std::uint32_t document) const {
    return first_held_[document + 1] - first_held_[document];
  }
  void place(document_vectors& into, std::uint32_t number, const context_block& block,
             std::span<float> merged) const;
  float factor() const;
  void prune_queries(const query_group& group, std::uint32_t kv_head, std::span<const std::uint32_t> channels,
                     float* out) const;
  struct part {
    std::uint32_t kv_head, document;
  };
  void list_parts(std::uint32_t layer, const query_group& group);
  template <class Task>
  void for_lines_of(const part& of, std::uint32_t steps, Task&& task) const;
  void join_parts(std::uint32_t steps, shard_scores& out) const;

  options chosen_;
  ranked_context context_;
  std::uint32_t channels_;
  std::uint32_t merged_;
  std::vector<std::uint32_t> first_held_;  // by document, into context_.held; one more at the end
  std::vector<document_vectors> vectors_;  // [layer][kv_head][document]

  std::vector<part> parts_;
  std::vector<kernels::softmax_blocks> items_;
  std::vector<float> queries_, sums_;
  std::vector<kernels::softmax_total> totals_;
  kernels::workspace scratch_;
};

void kvstar_ranker::add_keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t document,
                             std::span<const float> keys) {
  const std::uint32_t blocks = held_blocks(document);
  if (blocks == 0) return;
  const std::uint32_t head_dim = context_.shape.head_dim;
  document_vectors& into = vectors_of(layer, kv_head, document);
  into.channels = choose_channels(keys, head_dim, channels_);
  into.tiles = kernels::score_tiles(context_.shape.type, blocks * merged_, channels_);
  std::vector<float> merged(std::size_t{merged_} * channels_);
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const context_block& block = context_.middle[context_.held[first_held_[document] + i]];
    merge_tokens(
        keys.subspan(std::size_t{block.first_token} * head_dim, std::size_t{chosen_.block_tokens} * head_dim),
        head_dim, into.channels, chosen_.token_merge, merged);
    place(into, i, block, merged);
  }
}

void kvstar_ranker::add_reduced(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t middle_block,
                                std::span<const std::uint32_t> channels, std::span<const float> vectors) {
  const auto held = std::ranges::lower_bound(context_.held, middle_block);
  if (held == context_.held.end() || *held != middle_block)
    throw std::logic_error("kvstar: reduced keys of a block that is not held");
  if (channels.size() != channels_ || vectors.size() != std::size_t{merged_} * channels_)
    throw std::logic_error("kvstar: reduced keys of another shape");
  const context_block& block = context_.middle[middle_block];
  document_vectors& into = vectors_of(layer, kv_head, block.document);
  if (into.channels.empty()) {
    into.channels.assign(channels.begin(), channels.end());
    into.tiles = kernels::score_tiles(context_.shape.type, held_blocks(block.document) * merged_, channels_);
  }
  std::vector<float> merged(vectors.begin(), vectors.end());
  const auto number = static_cast<std::uint32_t>(held - context_.held.begin());
  place(into, number - first_held_[block.document], block, merged);
}

// Rotated to where the block lies, as the document's block `number` of those that are held.
void kvstar_ranker::place(document_vectors& into, std::uint32_t number, const context_block& block,
                          std::span<float> merged) const {
  for (std::uint32_t m = 0; m < merged_; ++m) {
    const auto vector = merged.subspan(std::size_t{m} * channels_, channels_);
    const float position = static_cast<float>(block.start_position) +
                           merged_offset(m, chosen_.block_tokens, chosen_.token_merge);
    rotate_kept(vector, into.channels, context_.frequencies, position);
    into.tiles.set(number * merged_ + m, vector);
  }
}

// Of the products, to the base of 2.
float kvstar_ranker::factor() const {
  const auto to_base_2 = static_cast<float>(std::numbers::log2e);
  switch (chosen_.scale) {
    case score_scale::head_dim:
      return to_base_2 / std::sqrt(static_cast<float>(context_.shape.head_dim));
    case score_scale::kept_dim:
      return to_base_2 / std::sqrt(static_cast<float>(channels_));
    case score_scale::none:
      break;
  }
  return to_base_2;
}

void kvstar_ranker::prune_queries(const query_group& group, std::uint32_t kv_head,
                                  std::span<const std::uint32_t> channels, float* out) const {
  const std::uint32_t heads = context_.shape.query_heads / context_.shape.kv_heads;
  const float scale = factor();
  for (std::uint32_t step = 0; step < group.steps; ++step)
    for (std::uint32_t head = kv_head * heads; head < (kv_head + 1) * heads; ++head) {
      const float* query =
          group.queries + step * group.step_stride + std::size_t{head} * context_.shape.head_dim;
      for (const std::uint32_t channel : channels)
        *out++ = query[channel] * scale;
    }
}

void kvstar_ranker::list_parts(std::uint32_t layer, const query_group& group) {
  const std::uint32_t lines = group.steps * (context_.shape.query_heads / context_.shape.kv_heads);
  parts_.clear();
  items_.clear();
  std::size_t sums = 0;
  for (std::uint32_t head = 0; head < context_.shape.kv_heads; ++head)
    for (std::uint32_t document = 0; document < context_.documents.size(); ++document) {
      if (held_blocks(document) == 0) continue;
      parts_.push_back({head, document});
      sums += std::size_t{lines} * held_blocks(document);
    }
  queries_.resize(parts_.size() * lines * channels_);
  sums_.resize(sums);
  totals_.resize(parts_.size() * lines);
  float* next_sums = sums_.data();
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const auto [head, document] = parts_[i];
    const document_vectors& held = vectors_of(layer, head, document);
    float* const queries = queries_.data() + i * lines * channels_;
    prune_queries(group, head, held.channels, queries);
    const std::size_t own_sums = std::size_t{lines} * held_blocks(document);
    items_.push_back({.keys = &held.tiles,
                      .block_vectors = merged_,
                      .queries = queries,
                      .lines = lines,
                      .sums = std::exchange(next_sums, next_sums + own_sums),
                      .totals = totals_.data() + i * lines,
                      .allowed = context_.shape.allowed});
  }
}

// Calls `task` with each line of a part and its number among all lines.
template <class Task>
void kvstar_ranker::for_lines_of(const part& of, std::uint32_t steps, Task&& task) const {
  const std::size_t heads = context_.shape.query_heads / context_.shape.kv_heads;
  std::uint32_t line = 0;
  for (std::uint32_t step = 0; step < steps; ++step) {
    const std::size_t first = std::size_t{step} * context_.shape.query_heads + of.kv_head * heads;
    for (std::size_t head = 0; head < heads; ++head)
      task(line++, first + head);
  }
}

// The documents of a line are parts of one softmax.
void kvstar_ranker::join_parts(std::uint32_t steps, shard_scores& out) const {
  const std::size_t blocks = context_.held.size();
  out.blocks = context_.held;
  out.sums.resize(std::size_t{steps} * context_.shape.query_heads * blocks);
  out.totals.assign(std::size_t{steps} * context_.shape.query_heads, {});
  for (std::size_t i = 0; i < parts_.size(); ++i)
    for_lines_of(parts_[i], steps, [&](std::uint32_t line, std::size_t to) {
      float& maximum = out.totals[to].maximum;
      maximum = std::max(maximum, items_[i].totals[line].maximum);
    });
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const std::uint32_t first = first_held_[parts_[i].document];
    const std::uint32_t count = held_blocks(parts_[i].document);
    for_lines_of(parts_[i], steps, [&](std::uint32_t line, std::size_t to) {
      const float scale = std::exp2(items_[i].totals[line].maximum - out.totals[to].maximum);
      out.totals[to].sum += items_[i].totals[line].sum * scale;
      for (std::uint32_t block = 0; block < count; ++block)
        out.sums[to * blocks + first + block] = items_[i].sums[std::size_t{line} * count + block] * scale;
    });
  }
}

void kvstar_ranker::score(std::uint32_t layer, const query_group& group, shard_scores& out,
                          kernels::thread_pool& pool) {
  const kernels::flush_to_zero small;
  list_parts(layer, group);
  kernels::softmax_block_sums(items_, scratch_, pool);
  join_parts(group.steps, out);
}

}  // namespace

std::unique_ptr<block_ranker> make_kvstar_ranker(const options& chosen, ranked_context context) {
  return std::make_unique<kvstar_ranker>(chosen, std::move(context));
}

}  // namespace weft::policies::retrieval
