#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_counted.hpp>

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

struct counted_case : column_case {
  explicit counted_case(std::uint32_t seed) : column_case(seed) {
    std::vector<std::uint32_t> cuts;
    for (int i = 0; i < 6; ++i)
      cuts.push_back(random.between(0, rows));
    std::ranges::sort(cuts);
    ranges = {{cuts[0], cuts[1]}, {cuts[2], cuts[3]}, {cuts[4], cuts[5]}};
    std::swap(ranges[2], ranges[random.between(0, 2)]);
    first_query = random.between(0, queries().rows);
    weights = random.values(queries().rows);
    stride = rows + random.between(0, 3);
  }

  column_count count(float* found, column_statistic statistic = column_statistic::largest_log) const {
    return {.counted = {ranges[0], ranges[1]},
            .beside = ranges[2],
            .first_query = first_query,
            .log_weights = weights,
            .statistic = statistic,
            .found = found,
            .stride = stride};
  }

  std::size_t row_floats() const { return column_case::stride; }

  // Largest logarithms, or sums, as `attention_counted` gives them, starting from `before`.
  std::vector<double> expected(float before,
                               column_statistic statistic = column_statistic::largest_log) const {
    std::vector<double> found(shape.query_heads * stride, before);
    for (std::uint32_t head = 0; head < shape.query_heads; ++head) {
      const auto z = logits(head);
      for (std::uint32_t query = first_query; query < z.size(); ++query) {
        std::vector<double> seen;
        for (const row_range& range : ranges)
          seen.insert(seen.end(), z[query].begin() + range.begin, z[query].begin() + range.end);
        const double sum = reference::log_sum(seen) + weights[query];
        for (const row_range& range : {ranges[0], ranges[1]})
          for (std::uint32_t row = range.begin; row < range.end; ++row)
            if (double& to = found[head * stride + row]; !std::isinf(z[query][row]))
              to = statistic == column_statistic::sum ? to + std::exp(z[query][row] - sum)
                                                      : std::max(to, z[query][row] - sum);
      }
    }
    return found;
  }

  std::vector<row_range> ranges;
  std::uint32_t first_query = 0;
  std::vector<float> weights;
  std::size_t stride = 0;
};

double worst_of(const std::vector<float>& found, const std::vector<double>& expected) {
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, relative(found[i], expected[i]));
  return worst;
}

void check_case(std::uint32_t seed, thread_pool& pool) {
  CAPTURE(seed);
  const counted_case c(seed);
  const auto heads = c.heads(0, c.rows);
  workspace scratch;
  for (const float before : {-INFINITY, -3.0F}) {
    std::vector<float> out(c.queries().rows * c.row_floats(), 7.0F), plain = out;
    std::vector<float> largest(c.shape.query_heads * c.stride, before), alone = largest;
    attention_counted(c.shape, c.queries(), heads, c.count(largest.data()), out.data(), c.row_floats(),
                      scratch, pool);
    attention_prefill(c.shape, c.queries(), heads, plain.data(), c.row_floats(), scratch, pool);
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i)
      worst = std::max(worst, std::fabs(double{out[i]} - plain[i]));
    CHECK(worst < 1e-5);
    CHECK(worst_of(largest, c.expected(before)) < 2e-5);
    attention_counted(c.shape, c.queries(), heads, c.count(alone.data()), nullptr, 0, scratch, pool);
    CHECK(alone == largest);
  }
}

}  // namespace

TEST_CASE("attention that counts columns gives what attention gives, and what columns are by definition") {
  thread_pool pool(2);
  testing::on_every_target([&] {
    for (std::uint32_t seed = 0; seed < 25; ++seed)
      check_case(seed, pool);
  });
}

TEST_CASE("shares are summed, with attention and without") {
  thread_pool pool(2);
  for (std::uint32_t seed = 0; seed < 25; ++seed) {
    CAPTURE(seed);
    const counted_case c(seed);
    const auto heads = c.heads(0, c.rows);
    workspace scratch;
    constexpr float before = 2.0F;
    std::vector<float> out(c.queries().rows * c.row_floats(), 7.0F), plain = out;
    std::vector<float> sums(c.shape.query_heads * c.stride, before), alone = sums;
    attention_counted(c.shape, c.queries(), heads, c.count(sums.data(), column_statistic::sum), out.data(),
                      c.row_floats(), scratch, pool);
    attention_prefill(c.shape, c.queries(), heads, plain.data(), c.row_floats(), scratch, pool);
    CHECK(out == plain);
    CHECK(worst_of(sums, c.expected(before, column_statistic::sum)) < 1e-4);
    attention_counted(c.shape, c.queries(), heads, c.count(alone.data(), column_statistic::sum), nullptr, 0,
                      scratch, pool);
    CHECK(alone == sums);
  }
}

TEST_CASE("columns counted by narrow products are those that two passes find") {
  thread_pool pool(2);
  for (std::uint32_t seed = 50; seed < 60; ++seed) {
    CAPTURE(seed);
    counted_case c(seed);
    c.shape.kv_dtype = dtype::bf16;
    c.shape.allowed = products::bf16;
    for (auto* rows : {&c.keys, &c.values})
      for (auto& head : *rows)
        head = testing::stored_values(dtype::bf16, c.random.values(std::size_t{c.rows} * c.shape.head_dim));
    const auto heads = c.heads(0, c.rows);
    column_count count;
    count.counted = {row_range{0, c.rows / 2}, row_range{c.rows / 2, c.rows}};
    count.stride = c.rows;
    workspace scratch;
    std::vector<float> once(std::size_t{c.shape.query_heads} * c.rows, -INFINITY), twice = once;
    std::vector<float> out(c.queries().rows * c.row_floats(), 7.0F), plain = out;
    count.found = once.data();
    attention_counted(c.shape, c.queries(), heads, count, out.data(), c.row_floats(), scratch, pool);
    attention_prefill(c.shape, c.queries(), heads, plain.data(), c.row_floats(), scratch, pool);
    std::vector<float> sums(std::size_t{c.queries().rows} * c.shape.query_heads);
    attention_log_sums(c.shape, c.queries(), heads, false, sums, scratch, pool);
    attention_columns(c.shape, c.queries(), heads, sums, column_statistic::largest_log, twice.data(), c.rows,
                      scratch, pool);
    for (std::size_t i = 0; i < once.size(); ++i) {
      CHECK((once[i] < -1e29F) == (twice[i] < -1e29F));
      if (once[i] > -1e29F) CHECK(once[i] == doctest::Approx(twice[i]).epsilon(1e-4).scale(1));
    }
    for (std::size_t i = 0; i < out.size(); ++i)
      CHECK(out[i] == doctest::Approx(plain[i]).epsilon(0.01).scale(1));
  }
}

TEST_CASE("counts do not depend on the number of threads") {
  thread_pool one(1), many(3);
  const counted_case c(5);
  const auto heads = c.heads(0, c.rows);
  workspace scratch;
  std::vector<float> first(c.shape.query_heads * c.stride, -INFINITY), second = first;
  attention_counted(c.shape, c.queries(), heads, c.count(first.data()), nullptr, 0, scratch, one);
  attention_counted(c.shape, c.queries(), heads, c.count(second.data()), nullptr, 0, scratch, many);
  CHECK(first == second);
}

TEST_CASE("rows in two places are refused") {
  thread_pool pool(1);
  const counted_case c(6);
  const auto elsewhere = c.heads(0, c.rows);
  auto heads = elsewhere;
  heads.front().before = &elsewhere.front();
  workspace scratch;
  CHECK_THROWS_AS(attention_counted(c.shape, c.queries(), heads, c.count(nullptr), nullptr, 0, scratch, pool),
                  std::invalid_argument);
}

TEST_CASE("a range that ends behind the rows is refused") {
  thread_pool pool(1);
  const counted_case c(6);
  auto count = c.count(nullptr);
  count.beside = {0, c.rows + 1};
  workspace scratch;
  CHECK_THROWS_AS(
      attention_counted(c.shape, c.queries(), c.heads(0, c.rows), count, nullptr, 0, scratch, pool),
      std::invalid_argument);
}

}  // namespace weft::kernels
