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

constexpr row_codec all_codecs[] = {row_codec::raw, row_codec::int8, row_codec::int4};

// The same rows in every codec, and what each of them stands for.
struct coded_values {
  coded_values(const attention_shape& shape, std::uint32_t rows, testing::random_source& random)
      : raw(shape.kv_dtype, random.values(std::size_t{rows} * shape.head_dim)) {
    bytes[0] = raw.bytes;
    values[0] = raw.values_of_bytes;
    for (const row_codec coding : {row_codec::int8, row_codec::int4}) {
      const auto i = static_cast<std::size_t>(coding);
      bytes[i].resize(rows * code_bytes(coding, shape.kv_dtype, shape.head_dim));
      scales[i].resize(rows * scales_per_row(coding, shape.head_dim));
      values[i].resize(std::size_t{rows} * shape.head_dim);
      encode_rows(coding, shape.kv_dtype, raw.bytes.data(), shape.head_dim, rows, shape.head_dim,
                  bytes[i].data(), scales[i].data());
      decode_rows(coding, bytes[i].data(), scales[i].data(), rows, shape.head_dim, dtype::f32,
                  reinterpret_cast<std::byte*>(values[i].data()));
    }
  }

  testing::stored_values raw;
  std::vector<std::byte> bytes[3];
  std::vector<std::uint16_t> scales[3];
  std::vector<float> values[3];
};

// Heads of several sessions, each with its own number of rows, cut into runs at random.
struct decode_case {
  explicit decode_case(std::uint32_t seed, std::uint32_t most_rows = 1500) : random(seed) {
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
      rows.push_back(random.between(0, 5) == 0 ? 0 : random.between(1, most_rows));
      k.emplace_back(shape, rows[head], random);
      v.emplace_back(shape, rows[head], random);
      q.push_back(random.values(std::size_t{group} * shape.head_dim));
    }
  }

  // Runs in codecs of their own, if `mixed`. Takes down which one each row is read in.
  std::vector<std::vector<kv_run>> runs(bool whole, bool mixed = false) {
    std::vector<std::vector<kv_run>> out(rows.size());
    used.assign(rows.size(), {});
    for (std::size_t head = 0; head < rows.size(); ++head) {
      for (std::uint32_t row = 0; row < rows[head];) {
        const std::uint32_t count = whole ? rows[head] : std::min(random.between(0, 400), rows[head] - row);
        const row_codec coding = mixed ? all_codecs[random.between(0, 2)] : row_codec::raw;
        const auto i = static_cast<std::size_t>(coding);
        const std::size_t first = row * code_bytes(coding, shape.kv_dtype, shape.head_dim);
        const std::size_t scale = row * scales_per_row(coding, shape.head_dim);
        out[head].push_back({k[head].bytes[i].data() + first, v[head].bytes[i].data() + first, count, coding,
                             k[head].scales[i].data() + scale, v[head].scales[i].data() + scale});
        used[head].insert(used[head].end(), count, i);
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
      const auto keys = read(k[head], used[head]);
      const auto values = read(v[head], used[head]);
      for (std::size_t line = 0; line < group; ++line) {
        const auto expected = reference::attention(q[head].data() + line * shape.head_dim, {}, keys.data(),
                                                   values.data(), all, shape.head_dim, shape.scale);
        for (std::size_t d = 0; d < shape.head_dim; ++d) {
          const double error = std::fabs(out[head][line * shape.head_dim + d] - expected[d]);
          worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        }
      }
    }
    return worst;
  }

  // The rows as they were read.
  std::vector<float> read(const coded_values& rows_of_head, const std::vector<std::size_t>& codecs) const {
    std::vector<float> out;
    for (std::size_t row = 0; row < codecs.size(); ++row) {
      const float* const first = rows_of_head.values[codecs[row]].data() + row * shape.head_dim;
      out.insert(out.end(), first, first + shape.head_dim);
    }
    return out;
  }

  testing::random_source random;
  attention_shape shape;
  std::uint32_t group = 1;
  std::vector<std::uint32_t> rows;
  std::vector<coded_values> k, v;
  std::vector<std::vector<std::size_t>> used;  // [head][row]: the codec it was read in
  std::vector<std::vector<float>> q;
};

TEST_CASE("decode attention equals its definition on ragged rows") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      decode_case c(seed, seed % 8 == 0 ? 6000 : 1500);  // some heads are the work of several tasks
      const bool narrow = operand_dtype(c.shape.allowed, c.shape.kv_dtype) == dtype::bf16;
      CHECK(c.worst_error(c.run(pool, c.runs(false))) <= (narrow ? 0.03 : 1e-5));
    }
  });
}

TEST_CASE("runs of int8 and int4 beside raw ones are read as what they stand for") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 100; seed < 140; ++seed) {
      CAPTURE(seed);
      decode_case c(seed, seed % 8 == 0 ? 6000 : 1500);
      const bool exact = c.shape.kv_dtype == dtype::f32;
      CHECK(c.worst_error(c.run(pool, c.runs(seed % 4 == 0, true))) <= (exact ? 1e-5 : 0.03));
    }
  });
}

TEST_CASE("neither threads nor the cut into runs change a bit of the result") {
  thread_pool one(1);
  thread_pool many(4);
  for (std::uint32_t seed = 50; seed < 65; ++seed) {
    CAPTURE(seed);
    decode_case c(seed, seed % 3 == 0 ? 20000 : 1500);  // one thread takes several pieces at once
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
