// The rotation of one thread against the CPU's kernel: the same bytes.
#include <weft/kernels/convert.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include <doctest/doctest.h>

#include "cuda/rotate_scatter_body.hpp"

#include <random>

using namespace weft::kernels;

namespace {

struct device_like_rows {
  const std::byte* k;
  const std::byte* v;
  std::size_t source_row_stride;
  const std::uint16_t* entries;
  const float* rotations;
  std::byte* k_out;
  std::byte* v_out;
};

template <class Elements, int Width>
void check(std::uint32_t head_dim, std::uint32_t rows, std::uint32_t stride, std::mt19937& random) {
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
  const auto k = noise(std::size_t{rows} * stride);
  const auto v = noise(std::size_t{rows} * stride);
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
                          .entries = entries.data(),
                          .rows = rows,
                          .rotations = &table,
                          .k_out = expected.data(),
                          .v_out = expected.data() + out_bytes};
  rotate_scatter({&item, 1}, Elements::type, pool);
  const device_like_rows same{
      k.data(), v.data(), stride, entries.data(), rotations.data(), got.data(), got.data() + out_bytes};
  for (std::uint32_t row = 0; row < rows; ++row)
    for (std::uint32_t part = 0; part < head_dim / 2 / Width; ++part)
      cuda::rotate_part<Elements, Width>(same, row, part, head_dim);
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
