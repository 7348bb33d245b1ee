// Methods that give every row a score and let the least ones go at every step.
#include "adaptive/baselines.hpp"
#include "adaptive/slot_books.hpp"

#include <algorithm>
#include <limits>
#include <utility>

namespace weft::policies::adaptive {

namespace {

constexpr float above_all = std::numeric_limits<float>::infinity();

float noise(std::uint64_t seed, std::uint64_t head, std::uint64_t token) {
  std::uint64_t z = seed + (head << 40U) + token + 1;
  z *= 0x9E3779B97F4A7C15ULL;
  z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  z = (z ^ (z >> 27U)) * 0x94D049BB133111EBULL;
  return static_cast<float>((z ^ (z >> 31U)) >> 40U) / static_cast<float>(1U << 24U);
}

class evicting_policy final : public cache_policy {
 public:
  evicting_policy(const session_shape& shape, const baseline_options& options)
      : shape_(shape),
        options_(options),
        future_tokens_(shape.heads() == 0 ? 0 : options.future.size() / shape.heads()),
        books_(shape.heads()),
        scores_(shape.heads()),
        groups_(budget_groups(shape, options.scope, options.rows)) {}

  policy_needs needs() const override {
    const bool attention = options_.chosen == method::h2o || options_.chosen == method::tova;
    return {.prompt_window = options_.chosen == method::h2o    ? all_rows
                             : options_.chosen == method::tova ? 1
                                                               : 0,
            .weights = attention};
  }

  void new_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows,
                const row_values&) override {
    for (std::uint32_t token = first_token; token < first_token + rows; ++token) {
      books_.add(head, token);
      scores_[head].push_back(first_score(head, token));
      newest_ = std::max(newest_, token);
    }
  }

  void prompt(const prompt_view& seen) override {
    if (needs().weights) add_prompt(seen);
    decide();
  }

  void observe(std::uint32_t layer, std::span<const head_weights> seen) override {
    if (options_.chosen == method::h2o) {
      for (std::uint32_t h = 0; h < shape_.kv_heads; ++h)
        add_group(seen[h].weights, scores_[layer * shape_.kv_heads + h]);
    } else if (options_.chosen == method::tova) {
      score_layer(layer, seen);
    }
  }

  std::span<const removed_row> decide() override {
    books_.begin();
    for (const auto& group : groups_)
      trim(group);
    return books_.removed();
  }

  std::span<const std::uint32_t> resident(std::uint32_t head) const override { return books_.tokens(head); }

  std::size_t state_bytes() const override {
    std::size_t bytes = books_.bytes() + candidates_.capacity() * sizeof(candidate);
    for (const auto& scores : scores_)
      bytes += scores.capacity() * sizeof(float);
    return bytes;
  }

 private:
  struct candidate {
    float score = 0;
    std::uint32_t token = 0;
    std::uint32_t head = 0;
    std::uint32_t slot = 0;
    bool kept_first = false;

    // Which of two rows leaves first: among equals the later one.
    friend bool operator<(const candidate& a, const candidate& b) {
      if (a.kept_first != b.kept_first) return b.kept_first;
      if (a.score != b.score) return a.score < b.score;
      if (a.head != b.head) return a.head > b.head;
      return a.token > b.token;
    }
  };

  float first_score(std::uint32_t head, std::uint32_t token) const {
    switch (options_.chosen) {
      case method::random:
        return noise(options_.seed, head, token);
      case method::oracle:
        return token < future_tokens_ ? options_.future[head * future_tokens_ + token] : above_all;
      case method::h2o:
      case method::tova:
        return 0;
      default:
        return static_cast<float>(token);
    }
  }

  bool is_kept_first(std::uint32_t token) const {
    const std::uint32_t age = newest_ - token;
    switch (options_.chosen) {
      case method::streaming_llm:
        return token < options_.sinks;
      case method::h2o:
        return age < options_.rows - options_.rows / 2;
      case method::random:
        return age < options_.window;
      default:
        return false;
    }
  }

  void add_prompt(const prompt_view& seen) {
    for (std::uint32_t head = 0; head < shape_.heads(); ++head) {
      const std::size_t layer = head / shape_.kv_heads;
      const std::size_t first =
          options_.chosen == method::tova ? 0 : std::size_t{head % shape_.kv_heads} * shape_.group();
      const std::size_t count = options_.chosen == method::tova ? shape_.query_heads : shape_.group();
      for (std::size_t q = first; q < first + count; ++q)
        for (std::size_t i = 0; i < seen.tokens; ++i)
          scores_[head][i] += seen.sums[(layer * shape_.query_heads + q) * seen.tokens + i];
    }
  }

  void add_group(std::span<const float> weights, std::vector<float>& scores) const {
    for (std::size_t g = 0; g < shape_.group(); ++g)
      for (std::size_t i = 0; i < scores.size(); ++i)
        scores[i] += weights[g * scores.size() + i];
  }

  // All heads of a layer hold the same tokens in the same slots.
  void score_layer(std::uint32_t layer, std::span<const head_weights> seen) {
    auto& first = scores_[std::size_t{layer} * shape_.kv_heads];
    std::ranges::fill(first, 0.0F);
    for (std::uint32_t h = 0; h < shape_.kv_heads; ++h)
      add_group(seen[h].weights, first);
    for (std::uint32_t h = 1; h < shape_.kv_heads; ++h)
      scores_[layer * shape_.kv_heads + h] = first;
  }

  void trim(const budget_group& group) {
    std::uint64_t rows = 0;
    for (std::uint32_t head = group.first; head < group.end; ++head)
      rows += scores_[head].size();
    if (rows <= group.rows) return;
    candidates_.clear();
    for (std::uint32_t head = group.first; head < group.end; ++head) {
      const auto tokens = books_.tokens(head);
      for (std::uint32_t slot = 0; slot < tokens.size(); ++slot)
        candidates_.push_back({scores_[head][slot], tokens[slot], head, slot, is_kept_first(tokens[slot])});
    }
    const auto excess = static_cast<std::ptrdiff_t>(rows - group.rows);
    std::nth_element(candidates_.begin(), candidates_.begin() + excess - 1, candidates_.end());
    candidates_.resize(static_cast<std::size_t>(excess));
    std::ranges::sort(candidates_, {}, &candidate::head);
    for (std::size_t i = 0; i < candidates_.size();) {
      const std::uint32_t head = candidates_[i].head;
      slots_.clear();
      for (; i < candidates_.size() && candidates_[i].head == head; ++i)
        slots_.push_back(candidates_[i].slot);
      auto& scores = scores_[head];
      books_.remove(
          head, slots_, [&](std::uint32_t slot, std::uint32_t last) { scores[slot] = scores[last]; },
          [&] { scores.pop_back(); });
    }
  }

  session_shape shape_;
  baseline_options options_;
  std::size_t future_tokens_;
  slot_books books_;
  std::vector<std::vector<float>> scores_;  // [head][slot]
  std::vector<budget_group> groups_;
  std::uint32_t newest_ = 0;
  std::vector<candidate> candidates_;
  std::vector<std::uint32_t> slots_;
};

}  // namespace

std::unique_ptr<cache_policy> make_evicting(const session_shape& shape, const baseline_options& options) {
  return std::make_unique<evicting_policy>(shape, options);
}

}  // namespace weft::policies::adaptive
