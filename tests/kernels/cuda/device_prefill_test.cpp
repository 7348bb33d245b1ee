// Attention of many query rows on a device, its sums and its columns, against the CPU's. Skipped, and said
// so, where there is none.
#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/cuda/attention_prefill.hpp>

#include <doctest/doctest.h>

#include "../column_case.hpp"
#include "device_memory.hpp"

#include <algorithm>
#include <cmath>
#include <memory>

namespace weft::kernels {
namespace {

using testing::column_case;
using testing::has_device;
using testing::shared_array;

// A case's queries and rows in memory that both sides read, one run for each KV head.
struct case_on_device {
  explicit case_on_device(const column_case& c)
      : q(std::span<const float>(c.q)),
        positions(std::span<const std::int32_t>(c.positions)),
        segments(std::span<const std::int32_t>(c.segments)),
        key_positions(std::span<const std::int32_t>(c.key_positions)),
        key_segments(std::span<const std::int32_t>(c.key_segments)),
        k(rows_of(c.keys)),
        v(rows_of(c.values)),
        runs(c.shape.kv_heads),
        heads(c.shape.kv_heads) {
    const std::size_t bytes = k.size() / c.shape.kv_heads;
    for (std::uint32_t head = 0; head < c.shape.kv_heads; ++head) {
      runs[head] = {k.data() + head * bytes, v.data() + head * bytes, key_positions.data(),
                    key_segments.data(), c.rows};
      heads[head] = {runs.data() + head, 1};
    }
    plan.assign(std::vector<std::vector<std::uint32_t>>(c.shape.kv_heads, {c.rows}),
                queries(c).rows * (c.shape.query_heads / c.shape.kv_heads), 8);
    tasks = std::make_unique<shared_array<cuda::attention_task>>(plan.tasks());
    merges = std::make_unique<shared_array<cuda::attention_merge>>(plan.merges());
    scratch = std::make_unique<shared_array<float>>(plan.scratch_bytes(c.shape.head_dim) / sizeof(float));
  }
  static shared_array<std::byte> rows_of(const std::vector<testing::stored_values>& heads) {
    std::vector<std::byte> all;
    for (const auto& head : heads)
      all.insert(all.end(), head.bytes.begin(), head.bytes.end());
    return shared_array<std::byte>(std::span<const std::byte>(all));
  }
  prefill_queries queries(const column_case& c) {
    return {q.data(), c.stride, static_cast<std::uint32_t>(c.positions.size()), positions.data(),
            segments.data()};
  }
  cuda::prefill_work work(const column_case& c) {
    return {queries(c),
            tasks->data(),
            static_cast<std::uint32_t>(tasks->size()),
            merges->data(),
            static_cast<std::uint32_t>(merges->size()),
            heads.data(),
            scratch->data()};
  }

  shared_array<float> q;
  shared_array<std::int32_t> positions, segments, key_positions, key_segments;
  shared_array<std::byte> k, v;
  shared_array<cuda::prefill_run> runs;
  shared_array<cuda::prefill_head> heads;
  cuda::attention_plan plan;
  std::unique_ptr<shared_array<cuda::attention_task>> tasks;
  std::unique_ptr<shared_array<cuda::attention_merge>> merges;
  std::unique_ptr<shared_array<float>> scratch;
};

bool for_tensor_cores(const column_case& c) {
  return c.shape.kv_dtype != dtype::f32 && c.shape.head_dim % 8 == 0;
}

double worst_of(const std::vector<float>& expected, shared_array<float>& found) {
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const bool both_unseen = expected[i] < -1e29F && found[i] < -1e29F;
    if (!both_unseen) worst = std::max(worst, std::abs(double{expected[i]} - found[i]));
  }
  return worst;
}

}  // namespace

TEST_CASE("prefill attention, its sums and columns on the device are the CPU's") {
  if (!has_device()) return;
  thread_pool pool(2);
  workspace scratch;
  for (std::uint32_t seed = 0; seed < testing::as_fits(60, 16); ++seed) {
    CAPTURE(seed);
    const column_case c(seed);
    if (!for_tensor_cores(c)) continue;
    case_on_device on_device(c);
    const std::uint32_t rows = c.queries().rows;
    const std::size_t out_stride = std::size_t{c.shape.query_heads} * c.shape.head_dim;
    const auto cpu_heads = c.heads(0, c.rows);
    std::vector<float> expected(rows * out_stride);
    shared_array<float> found(expected.size());
    attention_prefill(c.shape, c.queries(), cpu_heads, expected.data(), out_stride, scratch, pool);
    REQUIRE(cuda::attention_prefill(c.shape, on_device.work(c), found.data(), out_stride, nullptr) ==
            cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(worst_of(expected, found) < 0.1);

    std::vector<float> sums(std::size_t{rows} * c.shape.query_heads);
    shared_array<float> found_sums(sums.size());
    attention_log_sums(c.shape, c.queries(), cpu_heads, false, sums, scratch, pool);
    REQUIRE(cuda::attention_log_sums(c.shape, on_device.work(c), false, found_sums.data(), nullptr) ==
            cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(worst_of(sums, found_sums) < 0.1);

    for (const auto statistic : {column_statistic::largest_log, column_statistic::sum}) {
      const float start = statistic == column_statistic::sum ? 0.0F : -INFINITY;
      std::vector<float> columns(std::size_t{c.shape.query_heads} * c.rows, start);
      shared_array<float> found_columns{std::span<const float>(columns)};
      attention_columns(c.shape, c.queries(), cpu_heads, sums, statistic, columns.data(), c.rows, scratch,
                        pool);
      const cuda::column_work work{on_device.queries(c), on_device.runs.data(), c.rows,
                                   found_sums.data(),    found_columns.data(),  c.rows};
      REQUIRE(cuda::attention_columns(c.shape, work, statistic, nullptr) == cudaSuccess);
      REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
      CHECK(worst_of(columns, found_columns) < 0.3);
      if (rows == 0) continue;
      shared_array<float> anew{std::span<const float>(std::vector<float>(columns.size(), NAN))};
      auto replacing = work;
      replacing.out = anew.data();
      replacing.replaces = true;
      REQUIRE(cuda::attention_columns(c.shape, replacing, statistic, nullptr) == cudaSuccess);
      REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
      CHECK(std::equal(anew.data(), anew.data() + anew.size(), found_columns.data()));
    }
    if (rows == 0) continue;

    const auto weights = testing::random_source(seed).values(rows);
    auto weighed_sums = sums;
    for (std::size_t line = 0; line < sums.size(); ++line)
      weighed_sums[line] += weights[line / c.shape.query_heads];
    std::vector<float> columns(std::size_t{c.shape.query_heads} * c.rows, -INFINITY);
    shared_array<float> found_columns{std::span<const float>(columns)};
    shared_array<float> weights_there{std::span<const float>(weights)};
    attention_columns(c.shape, c.queries(), cpu_heads, weighed_sums, column_statistic::largest_log,
                      columns.data(), c.rows, scratch, pool);
    const cuda::column_work work{on_device.queries(c), on_device.runs.data(), c.rows,
                                 found_sums.data(),    found_columns.data(),  c.rows,
                                 weights_there.data()};
    REQUIRE(cuda::attention_columns(c.shape, work, column_statistic::largest_log, nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    CHECK(worst_of(columns, found_columns) < 0.3);
  }
}

}  // namespace weft::kernels
