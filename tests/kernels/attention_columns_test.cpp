#include <weft/kernels/attention_columns.hpp>

#include <doctest/doctest.h>

#include "column_case.hpp"
#include "every_target.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

using testing::column_case;
using testing::relative;

// Columns [0, left) and [right, rows): the softmax runs over both, found in two pieces.
void check_case(std::uint32_t seed, thread_pool& pool) {
  CAPTURE(seed);
  column_case c(seed);
  const std::uint32_t left = c.random.between(0, c.rows);
  const std::uint32_t right = c.random.between(left, c.rows);
  workspace scratch;
  std::vector<float> sums(c.positions.size() * c.shape.query_heads);
  attention_log_sums(c.shape, c.queries(), c.heads(0, left), false, sums, scratch, pool);
  attention_log_sums(c.shape, c.queries(), c.heads(right, c.rows), true, sums, scratch, pool);

  const std::size_t columns = c.rows - right;
  std::vector<float> largest(c.shape.query_heads * (columns + 1), -INFINITY);
  std::vector<float> total(largest.size(), 0.0F);
  const auto heads = c.heads(right, c.rows);
  attention_columns(c.shape, c.queries(), heads, sums, column_statistic::largest_log, largest.data(),
                    columns + 1, scratch, pool);
  attention_columns(c.shape, c.queries(), heads, sums, column_statistic::sum, total.data(), columns + 1,
                    scratch, pool);
  double worst = 0;
  for (std::uint32_t head = 0; head < c.shape.query_heads; ++head) {
    const auto z = c.logits(head);
    std::vector<double> log_sums;
    for (std::size_t row = 0; row < z.size(); ++row) {
      auto seen = z[row];
      seen.erase(seen.begin() + left, seen.begin() + right);
      log_sums.push_back(reference::log_sum(seen));
      worst = std::max(worst, relative(sums[row * c.shape.query_heads + head], log_sums.back()));
    }
    for (std::size_t i = 0; i < columns; ++i) {
      const auto column = reference::column_of(z, log_sums, right + i);
      worst = std::max(worst, relative(largest[head * (columns + 1) + i], column.largest_log));
      worst = std::max(worst, relative(total[head * (columns + 1) + i], column.sum));
    }
    CHECK(largest[head * (columns + 1) + columns] == -INFINITY);
  }
  CHECK(worst < 2e-5);
}

}  // namespace

TEST_CASE("columns of attention equal their definition") {
  thread_pool pool(2);
  testing::on_every_target([&] {
    for (std::uint32_t seed = 0; seed < 25; ++seed)
      check_case(seed, pool);
  });
}

TEST_CASE("later queries add to what earlier ones gave") {
  thread_pool pool(2);
  for (std::uint32_t seed = 100; seed < 110; ++seed) {
    CAPTURE(seed);
    const column_case c(seed);
    const auto heads = c.heads(0, c.rows);
    const prefill_queries all = c.queries();
    workspace scratch;
    std::vector<float> sums(std::size_t{all.rows} * c.shape.query_heads);
    attention_log_sums(c.shape, all, heads, false, sums, scratch, pool);
    for (const auto statistic : {column_statistic::largest_log, column_statistic::sum}) {
      const float start = statistic == column_statistic::sum ? 0.0F : -INFINITY;
      std::vector<float> once(std::size_t{c.shape.query_heads} * c.rows, start);
      std::vector<float> twice = once;
      attention_columns(c.shape, all, heads, sums, statistic, once.data(), c.rows, scratch, pool);
      const std::uint32_t half = all.rows / 2;
      prefill_queries part = all;
      part.rows = half;
      attention_columns(c.shape, part, heads, sums, statistic, twice.data(), c.rows, scratch, pool);
      part = {all.q + half * all.row_stride, all.row_stride, all.rows - half, all.positions + half,
              all.segments + half};
      attention_columns(c.shape, part, heads, std::span(sums).subspan(half * c.shape.query_heads), statistic,
                        twice.data(), c.rows, scratch, pool);
      double worst = 0;
      for (std::size_t i = 0; i < once.size(); ++i)
        worst = std::max(worst, once[i] < -1e29F ? (twice[i] < -1e29F ? 0.0 : 1.0)
                                                 : std::fabs(double{once[i]} - twice[i]));
      CHECK(worst < 1e-5);
    }
  }
}

TEST_CASE("narrow products stay close") {
  thread_pool pool(2);
  column_case c(7);
  c.shape.kv_dtype = dtype::bf16;
  c.keys.clear();
  for (std::uint32_t head = 0; head < c.shape.kv_heads; ++head)
    c.keys.emplace_back(dtype::bf16, c.random.values(std::size_t{c.rows} * c.shape.head_dim));
  workspace scratch;
  std::vector<float> exact(c.positions.size() * c.shape.query_heads), narrow(exact.size());
  attention_log_sums(c.shape, c.queries(), c.heads(0, c.rows), false, exact, scratch, pool);
  c.shape.allowed = products::bf16;
  attention_log_sums(c.shape, c.queries(), c.heads(0, c.rows), false, narrow, scratch, pool);
  for (std::size_t i = 0; i < exact.size(); ++i)
    CHECK(narrow[i] == doctest::Approx(exact[i]).epsilon(0.02));
}

}  // namespace weft::kernels
