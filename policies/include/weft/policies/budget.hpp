// From scores to the rows that are kept.
//
// n: tokens that are not protected. Row counts are floor(n * ratio + 1/2). Protected rows are kept on top of
// the budget, and so is the best row of a head that would keep none: attention needs one.
#pragma once

#include <weft/base/error.hpp>
#include <weft/policies/decimal_ratio.hpp>
#include <weft/policies/importance.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::policies {

enum class budget_kind : std::uint8_t {
  global,     // the best rows of all layers and heads (KVzip's "pair")
  uniform,    // each head its best rows
  adakv,      // arXiv 2407.11550: heads share the layer's budget by their part of its best rows, alpha 0.2
  pyramid,    // arXiv 2406.02069: layers by a straight line from 2C - C/20 rows per head down to C/20
  head,       // whole heads
  threshold,  // rows that score at least a fixed value
};

std::string_view name_of(budget_kind kind);
// `unsupported` for any other name; the error lists the names.
result<budget_kind> budget_kind_from_name(std::string_view name);

struct budget {
  budget_kind kind = budget_kind::global;
  decimal_ratio ratio = {};          // kept; not of `threshold`
  float least_score = 0;             // of `threshold`
  std::uint32_t protected_rows = 0;  // leading tokens that every head keeps
  // Of `head`: [layer][kv_head]. Empty: the maximum over the table's own tokens.
  std::span<const float> head_scores = {};
};

struct kept_rows {
  score_shape shape;
  std::vector<std::uint8_t> kept;  // [layer][kv_head][token], 1 or 0

  explicit kept_rows(const score_shape& s = {}) : shape(s), kept(s.rows(), 0) {}
  std::span<std::uint8_t> head(std::size_t index) {
    return std::span(kept).subspan(index * shape.tokens, shape.tokens);
  }
  std::span<const std::uint8_t> head(std::size_t index) const {
    return std::span(kept).subspan(index * shape.tokens, shape.tokens);
  }
  std::uint64_t count() const;
  std::uint32_t count(std::size_t head_index) const;
};

// `invalid_argument` if `protected_rows` or `head_scores` do not fit the table.
result<kept_rows> keep_rows(const score_table& scores, const budget& wanted);

}  // namespace weft::policies
