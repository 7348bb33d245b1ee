#include <weft/policies/importance.hpp>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace weft::policies {

namespace {

constexpr std::array<std::pair<std::string_view, importance_policy>, 12> named_policies{{
    {"kvzip", importance_policy::kvzip},
    {"kvzip_plus", importance_policy::kvzip_plus},
    {"kvzap_linear", importance_policy::kvzap_linear},
    {"kvzap_mlp", importance_policy::kvzap_mlp},
    {"snapkv", importance_policy::snapkv},
    {"h2o", importance_policy::h2o},
    {"tova", importance_policy::tova},
    {"expected_attention", importance_policy::expected_attention},
    {"knorm", importance_policy::knorm},
    {"keydiff", importance_policy::keydiff},
    {"streaming_llm", importance_policy::streaming_llm},
    {"random", importance_policy::random},
}};

constexpr auto every_policy = [] {
  std::array<importance_policy, named_policies.size()> all{};
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = named_policies[i].second;
  return all;
}();

std::string supported_names() {
  std::string names;
  for (const auto& [name, policy] : named_policies)
    names += (names.empty() ? "" : ", ") + std::string{name};
  return names;
}

// Steele, Lea, Flood: Fast splittable pseudorandom number generators.
class split_mix {
 public:
  explicit split_mix(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30U)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27U)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31U);
  }

 private:
  std::uint64_t state_;
};

}  // namespace

std::string_view name_of(importance_policy policy) {
  for (const auto& [name, candidate] : named_policies)
    if (candidate == policy) return name;
  return "unknown";
}

result<importance_policy> importance_policy_from_name(std::string_view name) {
  for (const auto& [candidate, policy] : named_policies)
    if (candidate == name) return policy;
  return fail(errc::unsupported,
              "no importance policy `" + std::string{name} + "`; supported: " + supported_names());
}

std::span<const importance_policy> all_importance_policies() {
  return every_policy;
}

std::vector<float> head_scores_of(const score_table& scores) {
  std::vector<float> best(scores.shape.heads(), 0.0F);
  if (scores.shape.tokens == 0) return best;
  for (std::size_t head = 0; head < best.size(); ++head)
    best[head] = std::ranges::max(scores.head(head));
  return best;
}

score_table recency_scores(const score_shape& shape, std::uint32_t sinks) {
  score_table scores(shape);
  const auto tokens = static_cast<float>(shape.tokens);
  for (std::size_t head = 0; head < shape.heads(); ++head) {
    const std::span<float> row = scores.head(head);
    for (std::uint32_t i = 0; i < shape.tokens; ++i)
      row[i] = i < sinks ? 2.0F : static_cast<float>(i + 1) / tokens;
  }
  return scores;
}

score_table random_scores(const score_shape& shape, std::uint64_t seed) {
  score_table scores(shape);
  split_mix noise(seed);
  for (float& score : scores.values)
    score = static_cast<float>(noise.next() >> 40U) / static_cast<float>(1U << 24U);
  return scores;
}

void max_pool(std::span<const float> in, std::uint32_t width, std::span<float> out) {
  const std::size_t reach = width / 2;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const std::size_t first = i < reach ? 0 : i - reach;
    const std::size_t last = std::min(in.size() - 1, i + reach);
    out[i] = *std::max_element(in.begin() + static_cast<std::ptrdiff_t>(first),
                               in.begin() + static_cast<std::ptrdiff_t>(last) + 1);
  }
}

}  // namespace weft::policies
