#include <weft/kernels/attention_decode.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/attention.hpp>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

namespace weft::kernels {
namespace {

// Heads of several sessions, each with its own number of rows, cut into runs at random.
struct decode_case {
  explicit decode_case(std::uint32_t seed) : random(seed) {
    shape.kv_heads = random.between(1, 2);
    group = random.between(1, 8);
    shape.query_heads = group * shape.kv_heads;
    // Half of the cases with the sizes that models have.
    shape.head_dim = random.coin() ? 64 * random.between(1, 3) : 2 * random.between(1, 80);
    shape.kv_dtype = testing::all_dtypes[random.between(0, 2)];
    shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    shape.allowed = random.coin() ? products::automatic : products::f32;
    const std::uint32_t heads = random.between(1, 5);
    for (std::uint32_t head = 0; head < heads; ++head) {
      rows.push_back(random.between(0, 5) == 0 ? 0 : random.between(1, 1500));
      k.emplace_back(shape.kv_dtype, random.values(std::size_t{rows[head]} * shape.head_dim));
      v.emplace_back(shape.kv_dtype, random.values(std::size_t{rows[head]} * shape.head_dim));
      q.push_back(random.values(std::size_t{group} * shape.head_dim));
    }
  }

  std::vector<std::vector<kv_run>> runs(bool whole) {
    const std::size_t row_bytes = shape.head_dim * size_bytes(shape.kv_dtype);
    std::vector<std::vector<kv_run>> out(rows.size());
    for (std::size_t head = 0; head < rows.size(); ++head) {
      for (std::uint32_t row = 0; row < rows[head];) {
        const std::uint32_t count = whole ? rows[head] : std::min(random.between(0, 400), rows[head] - row);
        out[head].push_back(
            {k[head].bytes.data() + row * row_bytes, v[head].bytes.data() + row * row_bytes, count});
        row += count;
      }
    }
    return out;
  }

  std::vector<std::vector<float>> run(thread_pool& pool, const std::vector<std::vector<kv_run>>& cut) {
    std::vector<std::vector<float>> out(rows.size(),
                                        std::vector<float>(std::size_t{group} * shape.head_dim, 7.0F));
    std::vector<decode_head> heads;
    for (std::size_t head = 0; head < rows.size(); ++head) {
      heads.push_back({q[head].data(), out[head].data(), cut[head]});
    }
    decode_plan plan;
    plan.assign(rows, shape);
    workspace scratch;
    attention_decode(shape, plan, heads, scratch.reserve(plan.scratch_bytes()), pool);
    return out;
  }

  double worst_error(const std::vector<std::vector<float>>& out) const {
    double worst = 0;
    for (std::size_t head = 0; head < rows.size(); ++head) {
      const std::vector<reference::coordinates> all(rows[head]);
      for (std::size_t line = 0; line < group; ++line) {
        const auto expected =
            reference::attention(q[head].data() + line * shape.head_dim, {}, k[head].values_of_bytes.data(),
                                 v[head].values_of_bytes.data(), all, shape.head_dim, shape.scale);
        for (std::size_t d = 0; d < shape.head_dim; ++d) {
          const double error = std::fabs(out[head][line * shape.head_dim + d] - expected[d]);
          worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        }
      }
    }
    return worst;
  }

  testing::random_source random;
  attention_shape shape;
  std::uint32_t group = 1;
  std::vector<std::uint32_t> rows;
  std::vector<testing::stored_values> k, v;
  std::vector<std::vector<float>> q;
};

TEST_CASE("decode attention equals its definition on ragged rows") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      decode_case c(seed);
      const bool narrow = operand_dtype(c.shape.allowed, c.shape.kv_dtype) == dtype::bf16;
      CHECK(c.worst_error(c.run(pool, c.runs(false))) <= (narrow ? 0.03 : 1e-5));
    }
  });
}

TEST_CASE("neither threads nor the cut into runs change a bit of the result") {
  thread_pool one(1);
  thread_pool many(4);
  for (std::uint32_t seed = 50; seed < 65; ++seed) {
    CAPTURE(seed);
    decode_case c(seed);
    CHECK(c.run(one, c.runs(true)) == c.run(many, c.runs(false)));
  }
}

TEST_CASE("a plan for other heads is refused") {
  thread_pool pool(1);
  const attention_shape shape{.query_heads = 2, .kv_heads = 1, .head_dim = 8};
  decode_plan plan;
  plan.assign(std::vector<std::uint32_t>{5}, shape);
  workspace scratch;
  const auto memory = scratch.reserve(plan.scratch_bytes());
  CHECK_THROWS_AS(attention_decode(shape, plan, {}, memory, pool), std::invalid_argument);
  const decode_head head{};
  CHECK_THROWS_AS(attention_decode(shape, plan, {&head, 1}, memory.first(8), pool), std::invalid_argument);
}

}  // namespace
}  // namespace weft::kernels
