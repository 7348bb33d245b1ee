// The warps of prefill attention and of attention by columns, lane by lane, against the definitions. Tensor
// cores are played by what the PTX ISA says of them.
#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "cuda/attention_columns_body.hpp"
#include "cuda/attention_decode_body.hpp"
#include "cuda/attention_prefill_body.hpp"
#include "reference/attention.hpp"
#include "reference/attention_columns.hpp"
#include "reference/column_run.hpp"
#include "reference/host_warp.hpp"
#include "reference/prefill_task.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace weft::kernels::cuda {
namespace {

struct run_like_device {
  const std::byte* k;
  const std::byte* v;
  const std::int32_t* positions;
  const std::int32_t* segments;
  std::uint32_t rows;
  row_codec coding;
  const std::uint16_t* k_scales;
  const std::uint16_t* v_scales;
};

struct queries_like_device {
  const float* q;
  std::size_t row_stride;
  std::uint32_t rows;
  const std::int32_t* positions;
  const std::int32_t* segments;
};

// Rows as the cache holds them, and what they are worth.
template <class Elements>
struct stored_rows {
  stored_rows(row_codec coding, std::uint32_t rows, std::uint32_t head_dim, testing::random_source& random)
      : bytes(std::max<std::size_t>(rows * code_bytes(coding, Elements::type, head_dim), 1)),
        scales(rows * scales_per_row(coding, head_dim)),
        values(random.values(std::size_t{rows} * head_dim)) {
    if (coding == row_codec::raw) {
      from_f32(Elements::type, values.data(), bytes.data(), values.size());
    } else {
      encode_rows(coding, dtype::f32, reinterpret_cast<const std::byte*>(values.data()), head_dim, rows,
                  head_dim, bytes.data(), scales.data());
      decode_rows(coding, bytes.data(), scales.data(), rows, head_dim, dtype::f32,
                  reinterpret_cast<std::byte*>(values.data()));
    }
    for (float& value : values)  // tensor cores multiply what is rounded
      value = Elements::widen(Elements::narrow(value));
  }
  aligned_buffer bytes;
  std::vector<std::uint16_t> scales;
  std::vector<float> values;
};

template <class Elements>
struct attention_case {
  attention_case(std::uint32_t seed, std::uint32_t dim, row_codec coding = row_codec::raw)
      : random(seed),
        head_dim(dim),
        kv_heads(random.between(1, 2)),
        group(random.between(1, 5)),
        rows(random.between(1, 400)),
        k(coding, rows * kv_heads, dim, random),
        v(coding, rows * kv_heads, dim, random) {
    for (std::uint32_t row = 0; row < rows; ++row) {
      positions.push_back(static_cast<std::int32_t>(row));
      segments.push_back(static_cast<std::int32_t>(row / 70 % 4));
    }
    const std::uint32_t count = random.between(1, 50);
    for (std::uint32_t i = 0; i < count; ++i) {
      query_positions.push_back(static_cast<std::int32_t>(random.between(0, rows)) - 1);
      query_segments.push_back(random.coin() ? 0 : static_cast<std::int32_t>(random.between(1, 4)));
    }
    stride = std::size_t{kv_heads} * group * head_dim + random.between(0, 3);
    q = random.values(count * stride, 2.0F);
    rounded_q = q;
    for (float& value : rounded_q)
      value = Elements::widen(Elements::narrow(value));
    const std::size_t row_bytes = code_bytes(coding, Elements::type, dim);
    for (std::uint32_t head = 0; head < kv_heads; ++head) {
      const std::uint32_t half = random.between(0, rows);
      for (const auto& [begin, end] : {std::pair{0U, half}, std::pair{half, rows}}) {
        const std::size_t at = std::size_t{head} * rows + begin;
        runs.push_back({k.bytes.data() + at * row_bytes, v.bytes.data() + at * row_bytes,
                        positions.data() + begin, segments.data() + begin, end - begin, coding,
                        k.scales.data() + at * scales_per_row(coding, dim),
                        v.scales.data() + at * scales_per_row(coding, dim)});
      }
    }
  }
  queries_like_device queries() const {
    return {q.data(), stride, static_cast<std::uint32_t>(query_positions.size()), query_positions.data(),
            query_segments.data()};
  }
  float scale() const { return 1.0F / std::sqrt(static_cast<float>(head_dim)); }
  std::uint32_t query_heads() const { return kv_heads * group; }
  const float* query(std::size_t row, std::size_t head) const {
    return rounded_q.data() + row * stride + head * head_dim;
  }
  const float* of_head(const std::vector<float>& values, std::size_t head) const {
    return values.data() + head / group * rows * head_dim;
  }
  attention_plan plan(std::uint32_t blocks) const {
    std::vector<std::vector<std::uint32_t>> counts;
    for (std::uint32_t head = 0; head < kv_heads; ++head)
      counts.push_back({runs[2 * head].rows, runs[2 * head + 1].rows});
    attention_plan made;
    made.assign(counts, queries().rows * group, blocks);
    return made;
  }

  testing::random_source random;
  std::uint32_t head_dim, kv_heads, group, rows;
  stored_rows<Elements> k, v;
  std::vector<std::int32_t> positions, segments, query_positions, query_segments;
  std::size_t stride = 0;
  std::vector<float> q, rounded_q;
  std::vector<run_like_device> runs;  // two for each KV head
};

// What the kernel that attends does for one task.
template <class Elements, std::uint32_t Channels, bool Values>
void run_task(const attention_case<Elements>& c, const attention_task& task, float* partial) {
  const attention_shape shape{.query_heads = c.query_heads(),
                              .kv_heads = c.kv_heads,
                              .head_dim = c.head_dim,
                              .kv_dtype = Elements::type,
                              .scale = c.scale()};
  reference::run_prefill_task<Elements, Channels, Values>(c.queries(), shape,
                                                          c.runs[2 * task.head + task.run], task, partial);
}

template <class Elements, std::uint32_t Channels>
void check_values(const attention_case<Elements>& c, std::uint32_t blocks, double tolerance) {
  const auto plan = c.plan(blocks);
  const std::size_t floats = line_floats(c.head_dim);
  std::vector<float> scratch(plan.scratch_bytes(c.head_dim) / sizeof(float), NAN);
  for (std::size_t i = 0; i < plan.tasks().size(); ++i)
    run_task<Elements, Channels, true>(c, plan.tasks()[i], scratch.data() + i * tile_lines * floats);
  double worst = 0;
  for (const auto& merge : plan.merges())
    for (std::uint32_t i = 0; i < tile_lines && merge.first_line + i < c.queries().rows * c.group; ++i) {
      const std::uint32_t row = (merge.first_line + i) / c.group;
      const std::uint32_t head = merge.head * c.group + (merge.first_line + i) % c.group;
      std::vector<reference::coordinates> keys;
      for (std::uint32_t key = 0; key < c.rows; ++key)
        keys.push_back({c.positions[key], c.segments[key]});
      const auto expected = reference::attention(
          c.query(row, head), {c.query_positions[row], c.query_segments[row]}, c.of_head(c.k.values, head),
          c.of_head(c.v.values, head), keys, c.head_dim, double{c.scale()});
      for (std::uint32_t d = 0; d < c.head_dim; ++d) {
        const float* const first = scratch.data() + (std::size_t{merge.first_task} * tile_lines + i) * floats;
        worst = std::max(worst,
                         std::abs(merged_element(first, tile_lines * floats, merge.tasks, d) - expected[d]));
      }
    }
  CHECK(worst < tolerance);
}

template <class Elements, std::uint32_t Channels>
std::vector<float> log_sums(const attention_case<Elements>& c, std::uint32_t blocks) {
  const auto plan = c.plan(blocks);
  const std::size_t floats = line_floats(0);
  std::vector<float> scratch(plan.scratch_bytes(0) / sizeof(float), NAN);
  for (std::size_t i = 0; i < plan.tasks().size(); ++i)
    run_task<Elements, Channels, false>(c, plan.tasks()[i], scratch.data() + i * tile_lines * floats);
  std::vector<float> out(std::size_t{c.queries().rows} * c.query_heads(), NAN);
  for (const auto& merge : plan.merges())
    for (std::uint32_t i = 0; i < tile_lines && merge.first_line + i < c.queries().rows * c.group; ++i) {
      const std::uint32_t line = merge.first_line + i;
      out[std::size_t{line / c.group} * c.query_heads() + merge.head * c.group + line % c.group] =
          merged_log_sum(scratch.data() + (std::size_t{merge.first_task} * tile_lines + i) * floats,
                         tile_lines * floats, merge.tasks, -INFINITY);
    }
  return out;
}

// The tiles of one run, for one query head.
template <class Elements, std::uint32_t Channels, bool Sums>
std::vector<float> columns(const attention_case<Elements>& c, std::uint32_t head, std::uint32_t run_index,
                           const std::vector<float>& sums, const float* log_weights) {
  const auto& run = c.runs[2 * (head / c.group) + run_index];
  const auto queries = c.queries();
  const row_lines<queries_like_device> lines{queries, head, c.head_dim, queries.rows, log_weights};
  std::vector<float> out(run.rows, Sums ? 0.0F : -INFINITY);
  reference::reduce_run<Elements, Channels, Sums>(lines, run, sums.data() + head, c.query_heads(), c.scale(),
                                                  out.data());
  return out;
}

template <class Elements, std::uint32_t Channels>
void check_columns(attention_case<Elements> c, std::uint32_t blocks, bool weighed = false) {
  const std::vector<float> weights = weighed ? c.random.values(c.queries().rows) : std::vector<float>{};
  const auto sums = log_sums<Elements, Channels>(c, blocks);
  const auto near = [](double found, double expected) {
    if (std::isinf(expected)) return std::isinf(found) && found < 0;
    return std::abs(found - expected) <= 2e-4 * std::max(1.0, std::abs(expected));
  };
  for (std::uint32_t head = 0; head < c.query_heads(); ++head) {
    std::vector<std::vector<double>> z;
    std::vector<double> exact;
    for (std::uint32_t row = 0; row < c.queries().rows; ++row) {
      z.push_back(reference::attention_logits(
          c.query(row, head), {c.query_positions[row], c.query_segments[row]}, c.of_head(c.k.values, head),
          c.positions, c.segments, c.head_dim, double{c.scale()}));
      exact.push_back(reference::log_sum(z.back()));
      REQUIRE(near(sums[std::size_t{row} * c.query_heads() + head], exact.back()));
      if (weighed) exact.back() += weights[row];
    }
    std::uint32_t before = 0;
    for (std::uint32_t run = 0; run < 2; ++run) {
      const auto largest =
          columns<Elements, Channels, false>(c, head, run, sums, weighed ? weights.data() : nullptr);
      const auto total =
          columns<Elements, Channels, true>(c, head, run, sums, weighed ? weights.data() : nullptr);
      for (std::size_t i = 0; i < largest.size(); ++i) {
        const auto expected = reference::column_of(z, exact, before + i);
        REQUIRE(near(largest[i], expected.largest_log));
        REQUIRE(near(total[i], expected.sum));
      }
      before += static_cast<std::uint32_t>(largest.size());
    }
  }
}

}  // namespace

TEST_CASE("a product of fragments is the product of their matrices") {
  testing::random_source random(1);
  const reference::host_warp warp;
  const auto a = random.values(16 * 16);
  const auto b = random.values(16 * 8);
  const auto narrow = [](float x) { return std::uint32_t{f16_elements::narrow(x)}; };
  const auto value = [](float x) { return f16_elements::widen(f16_elements::narrow(x)); };
  using reference::host_warp;
  host_warp::each_lanes<std::uint32_t> left[4], right[2];
  host_warp::each_lanes<float> product[4];
  for (std::uint32_t lane = 0; lane < warp_lanes; ++lane) {
    const std::uint32_t g = lane / 4;
    const std::uint32_t t = lane % 4;
    left[0][lane] = narrow(a[g * 16 + 2 * t]) | narrow(a[g * 16 + 2 * t + 1]) << 16;
    left[1][lane] = narrow(a[(g + 8) * 16 + 2 * t]) | narrow(a[(g + 8) * 16 + 2 * t + 1]) << 16;
    left[2][lane] = narrow(a[g * 16 + 2 * t + 8]) | narrow(a[g * 16 + 2 * t + 9]) << 16;
    left[3][lane] = narrow(a[(g + 8) * 16 + 2 * t + 8]) | narrow(a[(g + 8) * 16 + 2 * t + 9]) << 16;
    right[0][lane] = narrow(b[2 * t * 8 + g]) | narrow(b[(2 * t + 1) * 8 + g]) << 16;
    right[1][lane] = narrow(b[(2 * t + 8) * 8 + g]) | narrow(b[(2 * t + 9) * 8 + g]) << 16;
    for (auto& element : product)
      element[lane] = 1.0F;
  }
  warp.multiply_add<f16_elements>(left, right[0], right[1], product);
  for (std::uint32_t lane = 0; lane < warp_lanes; ++lane)
    for (std::uint32_t e = 0; e < 4; ++e) {
      const std::uint32_t row = lane / 4 + e / 2 * 8;
      const std::uint32_t column = 2 * (lane % 4) + e % 2;
      double expected = 1;
      for (std::uint32_t k = 0; k < 16; ++k)
        expected += double{value(a[row * 16 + k])} * value(b[k * 8 + column]);
      REQUIRE(product[e][lane] == doctest::Approx(expected).epsilon(1e-4));
    }
}

TEST_CASE("tiles on tensor cores give masked attention, for any rows, runs, groups and head size") {
  for (std::uint32_t seed = 0; seed < 6; ++seed) {
    CAPTURE(seed);
    check_values<bf16_elements, 128>({seed, 128}, 1 + seed * 7, 2e-2);
    check_values<f16_elements, 64>({seed, 64}, 1 + seed * 7, 3e-3);
    check_values<f16_elements, 64>({seed, 8}, 4, 3e-3);
    check_values<bf16_elements, 128>({seed, 72}, 4, 2e-2);
    check_values<f16_elements, 256>({seed, 256}, 4, 3e-3);
  }
}

TEST_CASE("rows in a codec are decoded and rounded into tiles") {
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (std::uint32_t seed = 0; seed < 3; ++seed) {
      CAPTURE(seed);
      check_values<f16_elements, 128>({seed, 128, coding}, 4, 3e-3);
      check_values<f16_elements, 64>({seed, 40, coding}, 4, 3e-3);
    }
}

TEST_CASE("sums of lines and columns of attention equal their definition") {
  for (std::uint32_t seed = 0; seed < 4; ++seed) {
    CAPTURE(seed);
    check_columns<bf16_elements, 128>({seed, 128}, 4);
    check_columns<f16_elements, 64>({seed, 24}, 4);
    check_columns<bf16_elements, 256>({seed, 200}, 4);
    check_columns<f16_elements, 64>({seed, 64, row_codec::int8}, 4);
    check_columns<bf16_elements, 128>({seed, 128}, 4, true);
    check_columns<f16_elements, 64>({seed, 40}, 4, true);
  }
}

TEST_CASE("sums are merged with those of other rows") {
  // Two results of weights 3 and 5 at 2^2 and 2^4, and one of nothing; then e^1 from before.
  const float results[] = {2.0F, 3.0F, 4.0F, 5.0F, unseen_score, 0.0F};
  CHECK(merged_log_sum(results, 2, 3, -INFINITY) == doctest::Approx(std::log(3 * 4 + 5 * 16)));
  CHECK(merged_log_sum(results, 2, 3, 1.0F) == doctest::Approx(std::log(3 * 4 + 5 * 16 + std::exp(1.0))));
  CHECK(merged_log_sum(results, 2, 0, 1.0F) == doctest::Approx(1.0));
  CHECK(merged_log_sum(results + 4, 2, 1, -INFINITY) == -INFINITY);
}

}  // namespace weft::kernels::cuda
