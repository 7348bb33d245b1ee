// What sparse decoding attends to: policies and their parameters.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::policies::retrieval {

enum class policy : std::uint8_t {
  full,          // every block, always
  kvstar,        // reduced keys, softmax over all blocks, queries of an earlier period
  esa,           // one mean key per block, the step's own query
  quest,         // bounds from each channel's smallest and largest key, the step's own query (2406.10774)
  kvstar_ahead,  // kvstar's scores for the step's own query, estimated one layer ahead
};

std::string_view name_of(policy chosen);

// `unsupported` for another name; the error lists what there is.
result<policy> policy_from_name(std::string_view name);

// What kvstar's products are divided by before the softmax.
enum class score_scale : std::uint8_t {
  none,
  head_dim,  // the square root of the head dimension
  kept_dim,  // the square root of the number of kept channels
};

result<score_scale> score_scale_from_name(std::string_view name);

// What is taken where nobody asks: `none` as kvstar was published, `head_dim` for kvstar_ahead.
score_scale usual_scale(policy chosen);

struct options {
  policy chosen = policy::kvstar;
  std::uint32_t block_tokens = 64;
  std::uint32_t init_blocks = 1;   // the first full blocks of a context, always attended
  std::uint32_t local_blocks = 2;  // the last ones
  double sparse_ratio = 0.25;      // share of the blocks between them that is attended
  std::uint32_t stride = 8;        // R, steps of a period
  double dim_ratio = 0.25;         // share of the channels that representations keep
  std::uint32_t token_merge = 2;   // adjacent tokens that share a vector
  score_scale scale = score_scale::none;
};

// `invalid_argument` names the option that is out of its range.
result<void> check(const options& chosen);

// ceil(blocks * ratio), the ratio read as a decimal.
std::uint32_t winners_of(std::uint32_t blocks, double ratio);

// Whether winners are chosen from queries of an earlier period rather than from the step's own.
bool is_periodic(policy chosen);

// Whether blocks are known by their reduced keys rather than by all of them.
bool ranks_by_reduced_keys(policy chosen);

}  // namespace weft::policies::retrieval
