#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "every_target.hpp"
#include "random_rows.hpp"
#include <reference/attention.hpp>

#include <algorithm>
#include <cmath>
#include <vector>

namespace weft::kernels {
namespace {

using reference::coordinates;

// The rows of one KV head: documents (segments 1, 2, ..) between rows of segment 0, by ascending position,
// some rows left out.
struct head_rows {
  head_rows(testing::random_source& random, dtype type, std::uint32_t prompt_rows, std::size_t head_dim,
            const std::vector<coordinates>& prompt)
      : coordinates_of(kept(random, prompt_rows, prompt)),
        k(type, random.values(coordinates_of.size() * head_dim)),
        v(type, random.values(coordinates_of.size() * head_dim)) {
    for (const coordinates& c : coordinates_of) {
      positions.push_back(c.position);
      segments.push_back(c.segment);
    }
  }

  static std::vector<coordinates> kept(testing::random_source& random, std::uint32_t rows,
                                       const std::vector<coordinates>& prompt) {
    const std::uint32_t one_in = random.between(2, 8);
    std::vector<coordinates> out;
    for (std::uint32_t row = 0; row < rows; ++row) {
      if (random.between(1, one_in) != 1) out.push_back(prompt[row]);
    }
    return out;
  }

  prefill_kv_head view() const {
    return {k.bytes.data(), v.bytes.data(), static_cast<std::uint32_t>(positions.size()), positions.data(),
            segments.data()};
  }

  std::vector<coordinates> coordinates_of;
  testing::stored_values k, v;
  std::vector<std::int32_t> positions, segments;
};

std::vector<coordinates> random_prompt(testing::random_source& random, std::uint32_t rows) {
  std::vector<coordinates> prompt;
  std::int32_t segment = 0;
  for (std::uint32_t row = 0; row < rows; ++row) {
    if (random.between(0, 40) == 0) segment = random.coin() ? 0 : segment + 1;
    prompt.push_back({static_cast<std::int32_t>(row), segment});
  }
  return prompt;
}

struct prefill_case {
  explicit prefill_case(std::uint32_t seed) : random(seed) {
    const std::uint32_t group = random.between(1, 7);
    shape.kv_heads = random.between(1, 3);
    shape.query_heads = group * shape.kv_heads;
    // Half of the cases with the sizes that models have.
    shape.head_dim = random.coin() ? 64 * random.between(1, 3) : 2 * random.between(1, 80);
    shape.kv_dtype = testing::all_dtypes[random.between(0, 2)];
    shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    shape.allowed = random.coin() ? products::bf16 : products::f32;

    const std::uint32_t prompt_rows = random.between(1, 700);
    const auto prompt = random_prompt(random, prompt_rows);
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      heads.emplace_back(random, shape.kv_dtype, prompt_rows, shape.head_dim, prompt);
    }
    const std::uint32_t rows = random.between(1, std::min(prompt_rows, 60U));
    for (std::uint32_t row = 0; row < rows; ++row) {
      const coordinates& c = prompt[random.between(0, prompt_rows - 1)];
      positions.push_back(c.position);
      segments.push_back(c.segment);
    }
    stride = std::size_t{shape.query_heads} * shape.head_dim + random.between(0, 3);
    q = random.values(rows * stride);
  }

  prefill_queries queries() const {
    return {q.data(), stride, static_cast<std::uint32_t>(positions.size()), positions.data(),
            segments.data()};
  }

  std::vector<float> run(thread_pool& pool) const {
    std::vector<prefill_kv_head> views;
    for (const head_rows& head : heads)
      views.push_back(head.view());
    std::vector<float> out(positions.size() * stride, 7.0F);
    workspace scratch;
    attention_prefill(shape, queries(), views, out.data(), stride, scratch, pool);
    return out;
  }

  // The rows of every head in two places, cut somewhere.
  std::vector<float> run_in_two(thread_pool& pool) {
    std::vector<prefill_kv_head> fronts, views;
    for (const head_rows& head : heads) {
      const prefill_kv_head whole = head.view();
      const std::uint32_t cut = random.between(0, whole.rows);
      const std::size_t bytes = std::size_t{cut} * shape.head_dim * size_bytes(shape.kv_dtype);
      fronts.push_back(whole);
      fronts.back().rows = cut;
      views.push_back(
          {whole.k + bytes, whole.v + bytes, whole.rows - cut, whole.positions + cut, whole.segments + cut});
    }
    for (std::size_t head = 0; head < heads.size(); ++head)
      views[head].before = &fronts[head];
    std::vector<float> out(positions.size() * stride, 7.0F);
    workspace scratch;
    attention_prefill(shape, queries(), views, out.data(), stride, scratch, pool);
    return out;
  }

  double worst_error(const std::vector<float>& out) const {
    double worst = 0;
    const std::size_t group = shape.query_heads / shape.kv_heads;
    for (std::size_t row = 0; row < positions.size(); ++row) {
      for (std::size_t head = 0; head < shape.query_heads; ++head) {
        const std::size_t at = row * stride + head * shape.head_dim;
        const head_rows& keys = heads[head / group];
        const auto expected = reference::attention(
            q.data() + at, {positions[row], segments[row]}, keys.k.values_of_bytes.data(),
            keys.v.values_of_bytes.data(), keys.coordinates_of, shape.head_dim, shape.scale);
        for (std::size_t d = 0; d < shape.head_dim; ++d) {
          const double error = std::fabs(out[at + d] - expected[d]);
          worst = std::isnan(error) ? INFINITY : std::max(worst, error);
        }
      }
    }
    return worst;
  }

  double tolerance() const {
    return dense_operand_dtype(shape.allowed, shape.kv_dtype) == dtype::bf16 ? 0.03 : 1e-5;
  }

  testing::random_source random;
  attention_shape shape;
  std::vector<head_rows> heads;
  std::vector<std::int32_t> positions, segments;
  std::vector<float> q;
  std::size_t stride = 0;
};

TEST_CASE("masked attention equals its definition on odd shapes") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 0; seed < 40; ++seed) {
      CAPTURE(seed);
      const prefill_case c(seed);
      CHECK(c.worst_error(c.run(pool)) <= c.tolerance());
    }
  });
}

TEST_CASE("rows that lie in two places count like those in one") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 200; seed < 220; ++seed) {
      CAPTURE(seed);
      prefill_case c(seed);
      CHECK(c.worst_error(c.run_in_two(pool)) <= c.tolerance());
    }
  });
}

TEST_CASE("a query row's result does not depend on the other rows or the threads") {
  thread_pool one(1);
  thread_pool many(4);
  for (std::uint32_t seed = 100; seed < 110; ++seed) {
    CAPTURE(seed);
    const prefill_case all(seed);
    const std::vector<float> together = all.run(many);
    prefill_case single(seed);
    const std::size_t row = all.positions.size() / 2;
    single.positions = {all.positions[row]};
    single.segments = {all.segments[row]};
    single.q.assign(all.q.begin() + static_cast<std::ptrdiff_t>(row * all.stride),
                    all.q.begin() + static_cast<std::ptrdiff_t>((row + 1) * all.stride));
    const std::vector<float> alone = single.run(one);
    const std::size_t width = std::size_t{all.shape.query_heads} * all.shape.head_dim;
    CHECK(std::equal(alone.begin(), alone.begin() + static_cast<std::ptrdiff_t>(width),
                     together.begin() + static_cast<std::ptrdiff_t>(row * all.stride)));
  }
}

// Every query sees the same rows, several tiles of them; those in the middle get far larger scores than all
// before them.
prefill_case steep_case(std::uint32_t seed) {
  prefill_case c(seed);
  constexpr std::uint32_t rows = 900;
  std::vector<coordinates> context(rows);
  for (std::uint32_t row = 0; row < rows; ++row)
    context[row] = {static_cast<std::int32_t>(row), 1};
  c.positions.assign(c.positions.size(), static_cast<std::int32_t>(rows));
  c.segments.assign(c.segments.size(), 1);
  for (float& value : c.q)
    value = std::fabs(value) / 4;
  c.heads.clear();
  for (std::uint32_t head = 0; head < c.shape.kv_heads; ++head) {
    c.heads.emplace_back(c.random, c.shape.kv_dtype, rows, c.shape.head_dim, context);
    std::vector<float> keys = c.heads.back().k.values_of_bytes;
    const auto middle = static_cast<std::ptrdiff_t>(keys.size() / c.shape.head_dim / 2 * c.shape.head_dim);
    const float steep = 640.0F / std::sqrt(static_cast<float>(c.shape.head_dim));
    for (auto at = keys.begin() + middle; at != keys.end(); ++at)
      *at = *at / 4 + steep;
    c.heads.back().k = testing::stored_values(c.shape.kv_dtype, keys);
  }
  return c;
}

TEST_CASE("a score far above all before it does not overflow, and rows alone give the same") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 300; seed < 312; ++seed) {
      CAPTURE(seed);
      const prefill_case all = steep_case(seed);
      const std::vector<float> together = all.run(pool);
      CHECK(all.worst_error(together) <= (all.tolerance() < 0.01 ? 2e-4 : 0.2));
      prefill_case single = steep_case(seed);
      const auto row = static_cast<std::ptrdiff_t>(all.positions.size() / 2);
      const auto stride = static_cast<std::ptrdiff_t>(all.stride);
      single.positions.resize(1);
      single.segments.resize(1);
      single.q.assign(all.q.begin() + row * stride, all.q.begin() + (row + 1) * stride);
      const std::vector<float> alone = single.run(pool);
      const auto width = static_cast<std::ptrdiff_t>(all.shape.query_heads * all.shape.head_dim);
      CHECK(std::equal(alone.begin(), alone.begin() + width, together.begin() + row * stride));
    }
  });
}

TEST_CASE("a document's rows see nothing of other documents; a row that sees nothing gives zeros") {
  thread_pool pool(1);
  prefill_case c(3);
  const std::vector<float> before = c.run(pool);
  // Values of segment 1 change: only rows of segments 0 and 1 may notice.
  for (head_rows& head : c.heads) {
    std::vector<float> values = head.v.values_of_bytes;
    for (std::size_t row = 0; row < head.segments.size(); ++row) {
      if (head.segments[row] != 1) continue;
      for (std::size_t d = 0; d < c.shape.head_dim; ++d)
        values[row * c.shape.head_dim + d] += 100.0F;
    }
    head.v = testing::stored_values(c.shape.kv_dtype, values);
  }
  const std::vector<float> after = c.run(pool);
  const std::size_t width = std::size_t{c.shape.query_heads} * c.shape.head_dim;
  for (std::size_t row = 0; row < c.positions.size(); ++row) {
    const auto first = static_cast<std::ptrdiff_t>(row * c.stride);
    const auto last = first + static_cast<std::ptrdiff_t>(width);
    if (c.segments[row] <= 1) continue;
    CHECK(std::equal(before.begin() + first, before.begin() + last, after.begin() + first));
  }

  c.positions.assign(c.positions.size(), -1);
  const std::vector<float> blind = c.run(pool);
  for (std::size_t row = 0; row < c.positions.size(); ++row) {
    for (std::size_t i = 0; i < width; ++i)
      REQUIRE(blind[row * c.stride + i] == 0.0F);
  }
}

TEST_CASE("rows in a codec attend as the rows that they decode to, bit for bit") {
  testing::on_every_target([] {
    thread_pool pool(2);
    for (std::uint32_t seed = 200; seed < 216; ++seed) {
      CAPTURE(seed);
      const prefill_case c(seed);
      const row_codec coding = seed % 2 == 0 ? row_codec::int8 : row_codec::int4;
      const std::size_t head_dim = c.shape.head_dim;
      struct coded {
        std::vector<std::byte> codes, decoded;
        std::vector<std::uint16_t> scales;
      };
      std::vector<coded> parts(2 * c.heads.size());
      std::vector<prefill_kv_head> in_codes, in_rows;
      for (std::size_t i = 0; i < c.heads.size(); ++i) {
        prefill_kv_head head = c.heads[i].view();
        for (std::size_t side = 0; side < 2; ++side) {
          coded& part = parts[2 * i + side];
          const auto& source = side == 0 ? c.heads[i].k : c.heads[i].v;
          part.codes.resize(head.rows * code_bytes(coding, c.shape.kv_dtype, head_dim));
          part.scales.resize(head.rows * scales_per_row(coding, head_dim));
          part.decoded.resize(source.bytes.size());
          encode_rows(coding, c.shape.kv_dtype, source.bytes.data(), head_dim, head.rows, head_dim,
                      part.codes.data(), part.scales.data());
          decode_rows(coding, part.codes.data(), part.scales.data(), head.rows, head_dim, c.shape.kv_dtype,
                      part.decoded.data());
        }
        head.k = parts[2 * i].decoded.data();
        head.v = parts[2 * i + 1].decoded.data();
        in_rows.push_back(head);
        head.k = parts[2 * i].codes.data();
        head.v = parts[2 * i + 1].codes.data();
        head.coding = coding;
        head.k_scales = parts[2 * i].scales.data();
        head.v_scales = parts[2 * i + 1].scales.data();
        in_codes.push_back(head);
      }
      std::vector<float> expected(c.positions.size() * c.stride, 7.0F), out = expected;
      workspace scratch;
      attention_prefill(c.shape, c.queries(), in_rows, expected.data(), c.stride, scratch, pool);
      attention_prefill(c.shape, c.queries(), in_codes, out.data(), c.stride, scratch, pool);
      CHECK(out == expected);

      // The same in front of rows that are in none.
      std::vector<prefill_kv_head> behind_rows, behind_codes;
      for (std::size_t i = 0; i < c.heads.size(); ++i) {
        behind_rows.push_back(c.heads[i].view());
        behind_codes.push_back(c.heads[i].view());
        behind_rows[i].before = &in_rows[i];
        behind_codes[i].before = &in_codes[i];
      }
      attention_prefill(c.shape, c.queries(), behind_rows, expected.data(), c.stride, scratch, pool);
      attention_prefill(c.shape, c.queries(), behind_codes, out.data(), c.stride, scratch, pool);
      CHECK(out == expected);
    }
  });
}

}  // namespace
}  // namespace weft::kernels
