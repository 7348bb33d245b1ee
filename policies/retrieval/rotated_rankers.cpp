// esa and quest: one vector, or one box, for a block's rotated keys of a (layer, KV head).
#include <weft/kernels/rope.hpp>

#include "retrieval/rankers.hpp"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace weft::policies::retrieval {

namespace {

// A block's keys, rotated to where they lie in the prompt.
std::vector<float> rotated_keys(std::span<const float> keys, std::span<const float> frequencies,
                                std::int32_t start_position) {
  const std::size_t half = frequencies.size();
  std::vector<float> rotated(keys.size());
  kernels::rotation_table table;
  table.assign(frequencies, start_position, static_cast<std::uint32_t>(keys.size() / (2 * half)));
  for (std::uint32_t row = 0; row < table.size(); ++row) {
    const std::size_t at = std::size_t{row} * 2 * half;
    const float* in = keys.data() + at;
    float* out = rotated.data() + at;
    for (std::size_t pair = 0; pair < half; ++pair) {
      const float c = table.cosines(row)[pair];
      const float s = table.sines(row)[pair];
      out[pair] = in[pair] * c - in[half + pair] * s;
      out[half + pair] = in[half + pair] * c + in[pair] * s;
    }
  }
  return rotated;
}

void mean_of(std::span<const float> rows, std::span<float> out) {
  const std::size_t count = rows.size() / out.size();
  std::ranges::fill(out, 0.0F);
  for (std::size_t i = 0; i < rows.size(); ++i)
    out[i % out.size()] += rows[i];
  for (float& value : out)
    value /= static_cast<float>(count);
}

// out: the smallest of each channel, then the largest.
void box_of(std::span<const float> rows, std::span<float> out) {
  const std::size_t head_dim = out.size() / 2;
  std::copy_n(rows.begin(), head_dim, out.begin());
  std::copy_n(rows.begin(), head_dim, out.begin() + static_cast<std::ptrdiff_t>(head_dim));
  for (std::size_t i = 0; i < rows.size(); ++i) {
    float& low = out[i % head_dim];
    float& high = out[head_dim + i % head_dim];
    low = std::min(low, rows[i]);
    high = std::max(high, rows[i]);
  }
}

struct esa_rule {
  static constexpr std::uint32_t vectors_per_channel = 1;
  static void summarise(std::span<const float> rows, std::span<float> out) { mean_of(rows, out); }
  static void score(const kernels::score_tiles& tiles, const float* queries, std::uint32_t lines, float* out,
                    kernels::thread_pool& pool) {
    kernels::vector_products(tiles, queries, lines, out, pool);
  }
};

struct quest_rule {
  static constexpr std::uint32_t vectors_per_channel = 2;
  static void summarise(std::span<const float> rows, std::span<float> out) { box_of(rows, out); }
  static void score(const kernels::score_tiles& tiles, const float* queries, std::uint32_t lines, float* out,
                    kernels::thread_pool& pool) {
    kernels::box_bounds(tiles, queries, lines, out, pool);
  }
};

// A block's score is the sum over query heads.
template <class Rule>
class rotated_ranker final : public block_ranker {
 public:
  rotated_ranker(const options& chosen, ranked_context context)
      : block_tokens_(chosen.block_tokens), context_(std::move(context)) {
    const auto& shape = context_.shape;
    const auto blocks = static_cast<std::uint32_t>(context_.held.size());
    for (std::size_t i = 0; i < std::size_t{shape.layers} * shape.kv_heads; ++i)
      tiles_.emplace_back(shape.type, blocks, Rule::vectors_per_channel * shape.head_dim);
  }

  void add_keys(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t document,
                std::span<const float> keys) override {
    const std::uint32_t head_dim = context_.shape.head_dim;
    for (const std::uint32_t number : context_.held) {
      const context_block& block = context_.middle[number];
      if (block.document == document)
        add_block(
            layer, kv_head, number,
            keys.subspan(std::size_t{block.first_token} * head_dim, std::size_t{block_tokens_} * head_dim));
    }
  }

  void add_block(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t middle_block,
                 std::span<const float> keys) override {
    const auto held = std::ranges::lower_bound(context_.held, middle_block);
    if (held == context_.held.end() || *held != middle_block)
      throw std::logic_error("keys of a block that is not held");
    std::vector<float> summary(std::size_t{Rule::vectors_per_channel} * context_.shape.head_dim);
    const std::int32_t start = context_.middle[middle_block].start_position;
    Rule::summarise(rotated_keys(keys, context_.frequencies, start), summary);
    tiles(layer, kv_head).set(static_cast<std::uint32_t>(held - context_.held.begin()), summary);
  }

  void score(std::uint32_t layer, const query_group& group, shard_scores& out,
             kernels::thread_pool& pool) override {
    const auto& shape = context_.shape;
    const std::uint32_t heads = shape.query_heads / shape.kv_heads;
    const float* newest = group.queries + (group.steps - 1) * group.step_stride;
    out.blocks = context_.held;
    out.sums.assign(context_.held.size(), 0.0F);
    out.totals.clear();
    lines_.resize(heads * context_.held.size());
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      Rule::score(tiles(layer, head), newest + std::size_t{head} * heads * shape.head_dim, heads,
                  lines_.data(), pool);
      for (std::size_t i = 0; i < lines_.size(); ++i)
        out.sums[i % out.sums.size()] += lines_[i];
    }
  }

  std::size_t allocated_bytes() const override {
    std::size_t bytes = 0;
    for (const auto& tiles : tiles_)
      bytes += tiles.size_bytes();
    return bytes;
  }

 private:
  kernels::score_tiles& tiles(std::uint32_t layer, std::uint32_t kv_head) {
    return tiles_[std::size_t{layer} * context_.shape.kv_heads + kv_head];
  }

  std::uint32_t block_tokens_;
  ranked_context context_;
  std::vector<kernels::score_tiles> tiles_;  // [layer][kv_head]
  std::vector<float> lines_;
};

}  // namespace

std::unique_ptr<block_ranker> make_esa_ranker(const options& chosen, ranked_context context) {
  return std::make_unique<rotated_ranker<esa_rule>>(chosen, std::move(context));
}

std::unique_ptr<block_ranker> make_quest_ranker(const options& chosen, ranked_context context) {
  return std::make_unique<rotated_ranker<quest_rule>>(chosen, std::move(context));
}

}  // namespace weft::policies::retrieval
