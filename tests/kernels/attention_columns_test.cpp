#include <weft/kernels/attention_columns.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/attention_columns.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

using reference::coordinates;

struct column_case {
  explicit column_case(std::uint32_t seed) : random(seed) {
    shape.kv_heads = random.between(1, 3);
    shape.query_heads = shape.kv_heads * random.between(1, 7);
    shape.head_dim = random.coin() ? 32 * random.between(1, 4) : 2 * random.between(1, 80);
    shape.kv_dtype = testing::all_dtypes[random.between(0, 2)];
    shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    shape.allowed = products::f32;
    rows = random.between(1, 600);
    for (std::uint32_t row = 0; row < rows; ++row) {
      key_positions.push_back(static_cast<std::int32_t>(row));
      key_segments.push_back(static_cast<std::int32_t>(row / 100 % 3));
    }
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      keys.emplace_back(shape.kv_dtype, random.values(std::size_t{rows} * shape.head_dim));
    const std::uint32_t first = random.between(0, rows - 1);
    const std::uint32_t count = random.between(1, std::min(rows - first, 70U));
    for (std::uint32_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(first + i));
      segments.push_back(random.coin() ? 0 : key_segments[first + i]);
    }
    stride = std::size_t{shape.query_heads} * shape.head_dim + random.between(0, 3);
    q = random.values(count * stride, 2.0F);
  }

  prefill_queries queries() const {
    return {q.data(), stride, static_cast<std::uint32_t>(positions.size()), positions.data(),
            segments.data()};
  }

  // Rows [begin, end) of every KV head.
  std::vector<prefill_kv_head> heads(std::uint32_t begin, std::uint32_t end) const {
    std::vector<prefill_kv_head> views;
    const std::size_t offset = std::size_t{begin} * shape.head_dim * size_bytes(shape.kv_dtype);
    for (const auto& head : keys)
      views.push_back({head.bytes.data() + offset, nullptr, end - begin, key_positions.data() + begin,
                       key_segments.data() + begin});
    return views;
  }

  // z[query][key] of one query head; -infinity where the query does not see the key.
  std::vector<std::vector<double>> logits(std::size_t query_head) const {
    const std::size_t head = query_head / (shape.query_heads / shape.kv_heads);
    std::vector<std::vector<double>> z;
    for (std::size_t row = 0; row < positions.size(); ++row)
      z.push_back(reference::attention_logits(
          q.data() + row * stride + query_head * shape.head_dim, {positions[row], segments[row]},
          keys[head].values_of_bytes.data(), key_positions, key_segments, shape.head_dim, shape.scale));
    return z;
  }

  testing::random_source random;
  attention_shape shape;
  std::uint32_t rows = 0;
  std::vector<std::int32_t> key_positions, key_segments, positions, segments;
  std::vector<testing::stored_values> keys;
  std::vector<float> q;
  std::size_t stride = 0;
};

double relative(double found, double expected) {
  if (std::isinf(expected)) return found < -1e29 ? 0.0 : INFINITY;
  return std::fabs(found - expected) / std::max(1.0, std::fabs(expected));
}

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
  c.shape.allowed = products::automatic;
  attention_log_sums(c.shape, c.queries(), c.heads(0, c.rows), false, narrow, scratch, pool);
  for (std::size_t i = 0; i < exact.size(); ++i)
    CHECK(narrow[i] == doctest::Approx(exact[i]).epsilon(0.02));
}

}  // namespace weft::kernels
