// The rotation of one thread against the CPU's kernel: the same bytes.
#include <weft/kernels/convert.hpp>
#include <weft/kernels/rotate_scatter.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "cuda/rotate_scatter_body.hpp"

#include <random>

using namespace weft::kernels;

namespace {

struct device_like_rows {
  const std::byte* k;
  const std::byte* v;
  std::size_t source_row_stride;
  row_codec coding;
  const std::uint16_t* k_scales;
  const std::uint16_t* v_scales;
  const std::uint16_t* entries;
  const float* rotations;
  std::byte* k_out;
  std::byte* v_out;
};

template <class Elements, int Width>
void check(std::uint32_t head_dim, std::uint32_t rows, std::uint32_t stride, std::mt19937& random,
           row_codec coding = row_codec::raw) {
  CAPTURE(name_of(coding));
  CAPTURE(head_dim);
  CAPTURE(rows);
  const std::uint32_t table_rows = rows + 5;
  const std::size_t bytes = size_bytes(Elements::type);
  const auto noise = [&](std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (auto& x : values)
      x = normal(random);
    aligned_buffer stored(count * bytes);
    from_f32(Elements::type, values.data(), stored.data(), count);
    return stored;
  };
  auto k = noise(std::size_t{rows} * stride);
  auto v = noise(std::size_t{rows} * stride);
  std::vector<std::uint16_t> k_scales(rows * scales_per_row(coding, head_dim));
  std::vector<std::uint16_t> v_scales(k_scales.size());
  const auto encode = [&](aligned_buffer& stored, std::vector<std::uint16_t>& scales) {
    if (coding == row_codec::raw) return;
    aligned_buffer codes(rows * code_bytes(coding, Elements::type, head_dim));
    encode_rows(coding, Elements::type, stored.data(), stride, rows, head_dim, codes.data(), scales.data());
    stored = std::move(codes);
  };
  encode(k, k_scales);
  encode(v, v_scales);
  std::vector<std::uint16_t> entries(rows);
  for (auto& entry : entries)
    entry = static_cast<std::uint16_t>(random() % table_rows);
  rotation_table table;
  table.assign(rope_frequencies({}, head_dim), 1000, table_rows);
  std::vector<float> rotations;
  for (std::uint32_t entry = 0; entry < table_rows; ++entry)
    rotations.insert(rotations.end(), table.cosines(entry), table.cosines(entry) + head_dim);

  const std::size_t out_bytes = std::size_t{rows} * head_dim * bytes;
  aligned_buffer expected(2 * out_bytes);
  aligned_buffer got(2 * out_bytes);
  thread_pool pool(1);
  const scatter_rows item{.k = k.data(),
                          .v = v.data(),
                          .source_row_stride = stride,
                          .coding = coding,
                          .k_scales = k_scales.data(),
                          .v_scales = v_scales.data(),
                          .entries = entries.data(),
                          .rows = rows,
                          .rotations = &table,
                          .k_out = expected.data(),
                          .v_out = expected.data() + out_bytes};
  rotate_scatter({&item, 1}, Elements::type, pool);
  const device_like_rows same{.k = k.data(),
                              .v = v.data(),
                              .source_row_stride = stride,
                              .coding = coding,
                              .k_scales = k_scales.data(),
                              .v_scales = v_scales.data(),
                              .entries = entries.data(),
                              .rotations = rotations.data(),
                              .k_out = got.data(),
                              .v_out = got.data() + out_bytes};
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::uint32_t part = 0; part < head_dim / 2 / Width; ++part)
      cuda::rotate_stored_part<Elements, Width>(same, row, part, head_dim);
  CHECK(std::equal(expected.data(), expected.data() + 2 * out_bytes, got.data()));
}

}  // namespace

TEST_CASE("a thread's part of a rotation gives the bytes of the CPU's kernel") {
  std::mt19937 random(11);
  for (const std::uint32_t rows : {1U, 7U, 64U}) {
    check<cuda::bf16_elements, 8>(128, rows, 128, random);
    check<cuda::bf16_elements, 8>(64, rows, 512, random);
    check<cuda::bf16_elements, 1>(6, rows, 10, random);
    check<cuda::f16_elements, 8>(80, rows, 80, random);
    check<cuda::f16_elements, 1>(12, rows, 12, random);
    check<cuda::f32_elements, 4>(32, rows, 64, random);
  }
}

TEST_CASE("a thread's part of rows in a codec gives the bytes of the CPU's kernel") {
  std::mt19937 random(12);
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (const std::uint32_t rows : {1U, 7U, 64U}) {
      check<cuda::bf16_elements, 8>(128, rows, 128, random, coding);
      check<cuda::bf16_elements, 8>(64, rows, 512, random, coding);
      check<cuda::bf16_elements, 1>(6, rows, 10, random, coding);
      check<cuda::f16_elements, 8>(80, rows, 80, random, coding);
      check<cuda::f16_elements, 1>(12, rows, 12, random, coding);
      check<cuda::f32_elements, 4>(32, rows, 64, random, coding);
      check<cuda::f32_elements, 1>(70, rows, 70, random, coding);
    }
}
