#include <weft/base/shortest_decimal.hpp>
#include <weft/policies/retrieval/options.hpp>

#include <array>
#include <cmath>
#include <utility>

namespace weft::policies::retrieval {

namespace {

constexpr std::array<std::pair<std::string_view, policy>, 5> named_policies{{
    {"full", policy::full},
    {"kvstar", policy::kvstar},
    {"esa", policy::esa},
    {"quest", policy::quest},
    {"kvstar_ahead", policy::kvstar_ahead},
}};

constexpr std::array<std::pair<std::string_view, score_scale>, 3> named_scales{{
    {"none", score_scale::none},
    {"head_dim", score_scale::head_dim},
    {"kept_dim", score_scale::kept_dim},
}};

template <class List>
std::string names_in(const List& list) {
  std::string names;
  for (const auto& [name, value] : list)
    names += (names.empty() ? "" : ", ") + std::string{name};
  return names;
}

result<void> wrong(const std::string& what) {
  return fail(errc::invalid_argument, what);
}

result<void> check_share(const char* name, double share) {
  if (share > 0 && share <= 1) return {};
  return wrong(std::string{name} + " is " + shortest_decimal(share) + "; it must be above 0 and at most 1");
}

}  // namespace

std::string_view name_of(policy chosen) {
  for (const auto& [name, value] : named_policies)
    if (value == chosen) return name;
  return "unknown";
}

result<policy> policy_from_name(std::string_view name) {
  for (const auto& [known, value] : named_policies)
    if (known == name) return value;
  return fail(errc::unsupported,
              "no retrieval policy `" + std::string{name} + "`; supported: " + names_in(named_policies));
}

result<score_scale> score_scale_from_name(std::string_view name) {
  for (const auto& [known, value] : named_scales)
    if (known == name) return value;
  return fail(errc::invalid_argument,
              "no scale `" + std::string{name} + "`; supported: " + names_in(named_scales));
}

score_scale usual_scale(policy chosen) {
  return chosen == policy::kvstar_ahead ? score_scale::head_dim : score_scale::none;
}

result<void> check(const options& chosen) {
  if (chosen.block_tokens == 0 || chosen.block_tokens > 4096)
    return wrong("block_tokens is " + std::to_string(chosen.block_tokens) + "; it must be 1 to 4096");
  if (chosen.token_merge == 0 || chosen.token_merge > chosen.block_tokens)
    return wrong("token_merge is " + std::to_string(chosen.token_merge) +
                 "; it must be at least 1 and at most block_tokens");
  if (chosen.stride == 0 || chosen.stride > 1024)
    return wrong("stride is " + std::to_string(chosen.stride) + "; it must be 1 to 1024");
  if (auto share = check_share("sparse_ratio", chosen.sparse_ratio); !share) return share;
  return check_share("dim_ratio", chosen.dim_ratio);
}

std::uint32_t winners_of(std::uint32_t blocks, double ratio) {
  constexpr std::uint64_t unit = 1'000'000'000;
  const auto parts = static_cast<std::uint64_t>(std::llround(ratio * static_cast<double>(unit)));
  return static_cast<std::uint32_t>((blocks * parts + unit - 1) / unit);
}

bool is_periodic(policy chosen) {
  return chosen == policy::kvstar;
}

bool ranks_by_reduced_keys(policy chosen) {
  return chosen == policy::kvstar || chosen == policy::kvstar_ahead;
}

}  // namespace weft::policies::retrieval
