// The kernels on a device, against the CPU's. Skipped, and said so, where there is none.
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/cuda/attention_decode.hpp>
#include <weft/kernels/cuda/rotate_scatter.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <doctest/doctest.h>

#include "device_memory.hpp"

#include <cmath>
#include <cstring>
#include <random>

using namespace weft::kernels;
using namespace weft::kernels::testing;

namespace {

std::vector<float> noise(std::size_t count, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (auto& x : values)
    x = normal(random);
  return values;
}

void fill(dtype type, shared_array<std::byte>& rows, std::mt19937& random) {
  const auto values = noise(rows.size() / size_bytes(type), random);
  from_f32(type, values.data(), rows.data(), values.size());
}

struct decode_case {
  std::uint32_t group, head_dim;
  std::vector<std::uint32_t> rows;
};

void check_decode(const decode_case& c, dtype type, std::mt19937& random) {
  CAPTURE(c.head_dim);
  const auto heads = static_cast<std::uint32_t>(c.rows.size());
  const attention_shape shape{.query_heads = c.group * heads,
                              .kv_heads = heads,
                              .head_dim = c.head_dim,
                              .kv_dtype = type,
                              .scale = 1.0F / std::sqrt(static_cast<float>(c.head_dim))};
  const std::size_t row_bytes = c.head_dim * size_bytes(type);
  std::size_t total = 0;
  for (const auto rows : c.rows)
    total += rows;
  shared_array<std::byte> k(total * row_bytes);
  shared_array<std::byte> v(total * row_bytes);
  fill(type, k, random);
  fill(type, v, random);
  const std::size_t width = std::size_t{c.group} * c.head_dim;
  const auto q = noise(heads * width, random);
  shared_array<float> queries{std::span(q)};
  shared_array<float> out(heads * width);
  std::vector<float> expected(heads * width);

  shared_array<cuda::kv_run> runs(heads);
  shared_array<cuda::decode_head> described(heads);
  std::vector<kv_run> cpu_runs(heads);
  std::vector<decode_head> cpu_heads(heads);
  std::size_t row = 0;
  for (std::uint32_t i = 0; i < heads; row += c.rows[i], ++i) {
    runs[i] = {k.data() + row * row_bytes, v.data() + row * row_bytes, c.rows[i]};
    described[i] = {queries.data() + i * width, out.data() + i * width, runs.data() + i, 1};
    cpu_runs[i] = {runs[i].k, runs[i].v, c.rows[i]};
    cpu_heads[i] = {q.data() + i * width, expected.data() + i * width, {&cpu_runs[i], 1}};
  }
  decode_plan cpu_plan;
  cpu_plan.assign(c.rows, shape);
  workspace cpu_scratch;
  thread_pool pool(1);
  attention_decode(shape, cpu_plan, cpu_heads, cpu_scratch.reserve(cpu_plan.scratch_bytes()), pool);

  cuda::decode_plan plan;
  plan.assign(c.rows, 1024);
  shared_array<cuda::decode_piece> pieces{plan.pieces()};
  shared_array<std::uint32_t> first_piece{plan.first_piece()};
  shared_array<float> scratch(plan.scratch_bytes(c.group, c.head_dim) / sizeof(float));
  const cuda::decode_work work{pieces.data(), first_piece.data(), static_cast<std::uint32_t>(pieces.size()),
                               plan.heads(),  described.data(),   scratch.data()};
  REQUIRE(cuda::attention_decode(shape, work, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    worst = std::max(worst, std::abs(double{out[i]} - expected[i]));
  CHECK(worst < (type == dtype::f32 ? 1e-4 : 1e-2));
}

}  // namespace

TEST_CASE("decode attention on the device gives what the CPU's gives") {
  if (!has_device()) return;
  std::mt19937 random(1);
  for (const auto type : {dtype::bf16, dtype::f16, dtype::f32}) {
    check_decode({4, 128, {1000, 10, 0, 1, as_fits(5000, 1500)}}, type, random);
    check_decode({1, 64, {as_fits(100'000, 8'000)}}, type, random);
    check_decode({7, 96, {33, 65, 129}}, type, random);
    check_decode({8, 256, {3, 700}}, type, random);
  }
}

TEST_CASE("rotated rows are the CPU's, byte for byte") {
  if (!has_device()) return;
  std::mt19937 random(2);
  for (const auto type : {dtype::bf16, dtype::f16, dtype::f32})
    for (const std::uint32_t head_dim : {128U, 64U, 12U}) {
      constexpr std::uint32_t rows = 333;
      const std::size_t bytes = std::size_t{rows} * head_dim * size_bytes(type);
      shared_array<std::byte> k(bytes);
      shared_array<std::byte> v(bytes);
      shared_array<std::byte> out(2 * bytes);
      fill(type, k, random);
      fill(type, v, random);
      rotation_table table;
      table.assign(rope_frequencies({}, head_dim), 77, rows);
      shared_array<float> rotations{std::span(table.cosines(0), std::size_t{rows} * head_dim)};
      shared_array<cuda::scatter_rows> items(1);
      items[0] = {.k = k.data(),
                  .v = v.data(),
                  .source_row_stride = head_dim,
                  .entries = nullptr,
                  .rows = rows,
                  .rotations = rotations.data(),
                  .k_out = out.data(),
                  .v_out = out.data() + bytes};
      REQUIRE(cuda::rotate_scatter(items.data(), 1, rows, head_dim, type, nullptr) == cudaSuccess);
      REQUIRE(cudaDeviceSynchronize() == cudaSuccess);

      std::vector<std::byte> expected(2 * bytes);
      thread_pool pool(1);
      const scatter_rows item{.k = k.data(),
                              .v = v.data(),
                              .source_row_stride = head_dim,
                              .rows = rows,
                              .rotations = &table,
                              .k_out = expected.data(),
                              .v_out = expected.data() + bytes};
      rotate_scatter({&item, 1}, type, pool);
      CHECK(std::memcmp(expected.data(), out.data(), expected.size()) == 0);
    }
}
