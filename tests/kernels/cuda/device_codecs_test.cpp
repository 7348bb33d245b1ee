// Rows in codecs on a device, against the CPU's kernels. Skipped, and said so, where there is none.
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/cuda/attention_decode.hpp>
#include <weft/kernels/cuda/rotate_scatter.hpp>
#include <weft/kernels/cuda/row_encoding.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

namespace weft::kernels {
namespace {

using testing::has_device;
using testing::shared_array;

// Random rows, raw or in a codec, in memory that both sides read.
struct coded_rows {
  coded_rows(row_codec codec, dtype type, std::uint32_t rows, std::uint32_t head_dim,
             testing::random_source& random)
      : codes(rows * code_bytes(codec, type, head_dim)), scales(rows * scales_per_row(codec, head_dim)) {
    const testing::stored_values raw(type, random.values(std::size_t{rows} * head_dim));
    if (codec == row_codec::raw)
      std::copy(raw.bytes.begin(), raw.bytes.end(), codes.data());
    else
      encode_rows(codec, type, raw.bytes.data(), head_dim, std::size_t{rows}, head_dim, codes.data(),
                  scales.data());
  }
  shared_array<std::byte> codes;
  shared_array<std::uint16_t> scales;
};

TEST_CASE("rows in a codec are rotated on the device by their entries, byte for byte") {
  if (!has_device()) return;
  testing::random_source random(1);
  thread_pool pool(1);
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (const dtype type : testing::all_dtypes)
      for (const std::uint32_t head_dim : {128U, 80U, 12U}) {
        constexpr std::uint32_t rows = 111, table_rows = 200;
        coded_rows k(coding, type, rows, head_dim, random), v(coding, type, rows, head_dim, random);
        shared_array<std::uint16_t> entries(rows);
        for (std::uint32_t i = 0; i < rows; ++i)
          entries[i] = static_cast<std::uint16_t>(random.between(0, table_rows - 1));
        rotation_table table;
        table.assign(rope_frequencies({}, head_dim), 1000, table_rows);
        std::vector<float> flat;
        for (std::uint32_t entry = 0; entry < table_rows; ++entry)
          flat.insert(flat.end(), table.cosines(entry), table.cosines(entry) + head_dim);
        shared_array<float> rotations{std::span<const float>(flat)};
        const std::size_t bytes = std::size_t{rows} * head_dim * size_bytes(type);
        shared_array<std::byte> out(2 * bytes);
        shared_array<cuda::scatter_rows> items(1);
        items[0] = {k.codes.data(),   v.codes.data(),  head_dim,          coding,
                    k.scales.data(),  v.scales.data(), entries.data(),    rows,
                    rotations.data(), out.data(),      out.data() + bytes};
        REQUIRE(cuda::rotate_scatter(items.data(), 1, rows, head_dim, type, nullptr) == cudaSuccess);
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        std::vector<std::byte> expected(2 * bytes);
        const scatter_rows item{.k = k.codes.data(),
                                .v = v.codes.data(),
                                .source_row_stride = head_dim,
                                .coding = coding,
                                .k_scales = k.scales.data(),
                                .v_scales = v.scales.data(),
                                .entries = entries.data(),
                                .rows = rows,
                                .rotations = &table,
                                .k_out = expected.data(),
                                .v_out = expected.data() + bytes};
        rotate_scatter({&item, 1}, type, pool);
        CHECK(std::memcmp(expected.data(), out.data(), expected.size()) == 0);
      }
}

TEST_CASE("decode attention on the device reads runs in codecs beside raw ones") {
  if (!has_device()) return;
  testing::random_source random(2);
  for (const std::uint32_t head_dim : {128U, 40U}) {
    constexpr dtype type = dtype::bf16;
    constexpr std::uint32_t group = 3;
    const std::vector<row_codec> codings{row_codec::int8, row_codec::raw, row_codec::int4};
    const std::vector<std::uint32_t> counts{300, 77, 501};
    const attention_shape shape{.query_heads = group,
                                .kv_heads = 1,
                                .head_dim = head_dim,
                                .kv_dtype = type,
                                .scale = 1.0F / std::sqrt(static_cast<float>(head_dim))};
    std::vector<std::unique_ptr<coded_rows>> keys, values;
    shared_array<cuda::kv_run> runs(codings.size());
    std::vector<kv_run> cpu_runs;
    for (std::size_t i = 0; i < codings.size(); ++i) {
      keys.push_back(std::make_unique<coded_rows>(codings[i], type, counts[i], head_dim, random));
      values.push_back(std::make_unique<coded_rows>(codings[i], type, counts[i], head_dim, random));
      runs[i] = {keys[i]->codes.data(),  values[i]->codes.data(), counts[i], codings[i],
                 keys[i]->scales.data(), values[i]->scales.data()};
      cpu_runs.push_back(
          {runs[i].k, runs[i].v, runs[i].rows, runs[i].coding, runs[i].k_scales, runs[i].v_scales});
    }
    const std::vector<std::uint32_t> rows{300 + 77 + 501};
    const auto q = random.values(std::size_t{group} * head_dim);
    shared_array<float> queries{std::span<const float>(q)}, out(q.size());
    shared_array<cuda::decode_head> heads(1);
    heads[0] = {queries.data(), out.data(), runs.data(), static_cast<std::uint32_t>(runs.size())};
    cuda::decode_plan plan;
    plan.assign(rows, 8);
    shared_array<cuda::decode_piece> pieces{plan.pieces()};
    shared_array<std::uint32_t> first_piece{plan.first_piece()};
    shared_array<float> scratch(plan.scratch_bytes(group, head_dim) / sizeof(float));
    REQUIRE(
        cuda::attention_decode(shape,
                               {pieces.data(), first_piece.data(), static_cast<std::uint32_t>(pieces.size()),
                                plan.heads(), heads.data(), scratch.data()},
                               nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);

    std::vector<float> expected(q.size());
    const decode_head cpu_head{q.data(), expected.data(), cpu_runs};
    decode_plan cpu_plan;
    cpu_plan.assign(rows, shape);
    workspace cpu_scratch;
    thread_pool pool(1);
    attention_decode(shape, cpu_plan, {&cpu_head, 1}, cpu_scratch.reserve(cpu_plan.scratch_bytes()), pool);
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i)
      if (!(std::abs(double{out[i]} - expected[i]) <= worst)) worst = std::abs(double{out[i]} - expected[i]);
    CHECK(worst < 1e-2);
  }
}

TEST_CASE("rows at given places are encoded on the device, several items at once") {
  if (!has_device()) return;
  testing::random_source random(3);
  constexpr std::uint32_t rows = 200, head_dim = 96;
  constexpr dtype type = dtype::f16;
  const testing::stored_values raw(type, random.values(std::size_t{rows} * head_dim));
  shared_array<std::byte> there{std::span<const std::byte>(raw.bytes)};
  const std::vector<row_codec> codings{row_codec::int4, row_codec::raw, row_codec::int8};
  constexpr std::uint32_t chosen = 57;
  shared_array<std::uint16_t> indices(chosen);
  std::vector<std::byte> in_order;
  for (std::uint32_t i = 0; i < chosen; ++i) {
    indices[i] = static_cast<std::uint16_t>(random.between(0, rows - 1));
    const auto* const row = raw.bytes.data() + std::size_t{indices[i]} * head_dim * size_bytes(type);
    in_order.insert(in_order.end(), row, row + head_dim * size_bytes(type));
  }
  std::vector<std::unique_ptr<shared_array<std::byte>>> codes;
  std::vector<std::unique_ptr<shared_array<std::uint16_t>>> scales;
  shared_array<cuda::rows_to_encode> items(codings.size());
  for (std::size_t i = 0; i < codings.size(); ++i) {
    codes.push_back(
        std::make_unique<shared_array<std::byte>>(chosen * code_bytes(codings[i], type, head_dim)));
    scales.push_back(
        std::make_unique<shared_array<std::uint16_t>>(chosen * scales_per_row(codings[i], head_dim)));
    std::fill_n(codes[i]->data(), codes[i]->size(), std::byte{0xA5});
    items[i] = {there.data(), head_dim,         indices.data(),   chosen,
                codings[i],   codes[i]->data(), scales[i]->data()};
  }
  REQUIRE(cuda::encode_rows(items.data(), 3, chosen, head_dim, type, nullptr) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  for (std::size_t i = 0; i < codings.size(); ++i) {
    std::vector<std::byte> expected(codes[i]->size(), std::byte{0xA5});  // raw rows are not its work
    std::vector<std::uint16_t> expected_scales(scales[i]->size());
    if (codings[i] != row_codec::raw)
      encode_rows(codings[i], type, in_order.data(), head_dim, std::size_t{chosen}, head_dim, expected.data(),
                  expected_scales.data());
    CHECK(std::memcmp(expected.data(), codes[i]->data(), expected.size()) == 0);
    CHECK(std::equal(expected_scales.begin(), expected_scales.end(), scales[i]->data()));
  }
}

}  // namespace
}  // namespace weft::kernels
