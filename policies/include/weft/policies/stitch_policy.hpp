// The ways to put cached documents into a prompt, and how they are spelled.
//
//   none            documents as they are cached; opening and question are computed
//   link(K)         K trained link tokens behind every document (KVLink, arXiv 2502.16002); K = 5
//   epic(k)         the first k tokens of every document are computed again (EPIC, arXiv 2410.15332); k = 16
//   blend(r,layer)  all rows up to the check layer, then the share r of the document rows whose values
//                   changed most there (CacheBlend, arXiv 2405.16444); r = 0.15, layer = 1, counted from 0
//   random(r,seed)  a share r of the document rows, drawn: a control; r = 0.15, seed = 0
//   full            nothing is reused: an ordinary causal prefill
//
// Parameters may be left out from the back, and the brackets with them. Shares are decimals of at most six
// places: so many millionths.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace weft::policies {

enum class stitch_kind : std::uint8_t { none, link, epic, blend, random, full };

struct stitch_policy {
  stitch_kind kind = stitch_kind::none;
  std::uint32_t tokens = 0;            // link: K; epic: k
  std::uint32_t share_millionths = 0;  // blend, random: of the document rows
  std::uint32_t layer = 0;             // blend: where rows are chosen
  std::uint64_t seed = 0;              // random

  static const stitch_policy none, full;
  static stitch_policy link(std::uint32_t tokens);
  static stitch_policy epic(std::uint32_t tokens);
  static stitch_policy blend(std::uint32_t share_millionths, std::uint32_t layer = 1);
  static stitch_policy random(std::uint32_t share_millionths, std::uint64_t seed = 0);

  friend bool operator==(const stitch_policy&, const stitch_policy&) = default;
};

inline constexpr stitch_policy stitch_policy::none{};
inline constexpr stitch_policy stitch_policy::full{.kind = stitch_kind::full};

// With every parameter: "none", "epic(16)", "blend(0.15,1)".
std::string name_of(const stitch_policy& policy);

// `unsupported` for a name that there is not, `invalid_argument` for wrong parameters; the error lists what
// there is.
result<stitch_policy> stitch_policy_from_name(std::string_view name);

// "none,blend(0.15,1),epic": cut at the commas that stand outside of brackets.
std::vector<std::string> split_policy_names(std::string_view list);

// A share as a number. `invalid_argument` outside of [0, 1].
result<std::uint32_t> share_millionths_of(double share);

// floor(rows * share + 1/2), the share read as a decimal: 0.29 of 100 is 29.
std::uint64_t rows_of_share(std::uint64_t rows, std::uint32_t share_millionths);

}  // namespace weft::policies
