// The warps of decode attention, lane by lane, and the merge of their pieces, against attention by
// definition.
#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/cuda/decode_plan.hpp>
#include <weft/kernels/row_codec.hpp>

#include <doctest/doctest.h>

#include "cuda/attention_decode_body.hpp"
#include "reference/attention.hpp"
#include "reference/host_warp.hpp"

#include <random>

using namespace weft::kernels;

namespace {

struct run {
  const std::byte* k;
  const std::byte* v;
  std::uint32_t rows;
  row_codec coding;
  const std::uint16_t* k_scales;
  const std::uint16_t* v_scales;
};

struct head {
  const float* q;
  const run* runs;
  std::uint32_t run_count;
};

std::vector<float> noise(std::size_t count, float scale, std::mt19937& random) {
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(count);
  for (auto& x : values)
    x = normal(random);
  return values;
}

// As the cache would hold them, and what they are worth.
struct stored_rows {
  row_codec coding;
  std::uint32_t head_dim;
  std::size_t row_bytes;
  aligned_buffer bytes;
  std::vector<std::uint16_t> scales;
  std::vector<float> values;

  stored_rows(dtype type, row_codec codec, std::uint32_t rows, std::uint32_t dim, std::mt19937& random)
      : coding(codec),
        head_dim(dim),
        row_bytes(code_bytes(codec, type, dim)),
        bytes(std::max<std::size_t>(rows, 1) * row_bytes),
        scales(rows * scales_per_row(codec, dim)),
        values(noise(std::size_t{rows} * dim, 1, random)) {
    if (codec == row_codec::raw) {
      from_f32(type, values.data(), bytes.data(), values.size());
      to_f32(type, bytes.data(), values.data(), values.size());
    } else {
      encode_rows(codec, dtype::f32, reinterpret_cast<const std::byte*>(values.data()), dim, rows, dim,
                  bytes.data(), scales.data());
      decode_rows(codec, bytes.data(), scales.data(), rows, dim, dtype::f32,
                  reinterpret_cast<std::byte*>(values.data()));
    }
  }

  const std::uint16_t* scales_of(std::uint32_t row) const {
    return scales.data() + row * scales_per_row(coding, head_dim);
  }
};

// `rows` rows, cut into runs at random.
std::vector<run> cut(const stored_rows& k, const stored_rows& v, std::uint32_t rows, std::mt19937& random) {
  std::vector<run> runs;
  for (std::uint32_t row = 0; row < rows;) {
    const auto count = std::min<std::uint32_t>(static_cast<std::uint32_t>(random() % 100), rows - row);
    runs.push_back({k.bytes.data() + row * k.row_bytes, v.bytes.data() + row * v.row_bytes, count, k.coding,
                    k.scales_of(row), v.scales_of(row)});
    row += count;
  }
  return runs;
}

template <class Elements, int Group>
void check(std::uint32_t head_dim, std::uint32_t rows, std::mt19937& random,
           row_codec coding = row_codec::raw) {
  CAPTURE(name_of(coding));
  CAPTURE(head_dim);
  CAPTURE(rows);
  const stored_rows k(Elements::type, coding, rows, head_dim, random);
  const stored_rows v(Elements::type, coding, rows, head_dim, random);
  const auto q = noise(std::size_t{Group} * head_dim, 2, random);
  const auto runs = cut(k, v, rows, random);
  const head described{q.data(), runs.data(), static_cast<std::uint32_t>(runs.size())};
  const float scale = 1.0F / std::sqrt(static_cast<float>(head_dim));

  cuda::decode_plan plan;
  plan.assign(std::vector<std::uint32_t>{rows}, 4);
  std::vector<float> partials(plan.scratch_bytes(Group, head_dim) / sizeof(float), NAN);
  const std::size_t stride = Group * cuda::partial_floats(head_dim);
  const reference::host_warp warp;
  for (std::size_t i = 0; i < plan.pieces().size(); ++i) {
    const auto& piece = plan.pieces()[i];
    cuda::attend_piece<Elements, Group>(warp, described, piece.first_row, piece.rows, scale * 1.44269504F,
                                        head_dim, partials.data() + i * stride);
  }
  const std::vector<reference::coordinates> visible(rows);
  for (std::uint32_t line = 0; line < Group; ++line) {
    const auto expected = reference::attention(q.data() + line * head_dim, {}, k.values.data(),
                                               v.values.data(), visible, head_dim, double{scale});
    const float* const first = partials.data() + line * cuda::partial_floats(head_dim);
    for (std::uint32_t d = 0; d < head_dim; ++d) {
      const float got =
          cuda::merged_element(first, stride, static_cast<std::uint32_t>(plan.pieces().size()), d);
      CHECK(std::abs(double{got} - expected[d]) < 2e-5);
    }
  }
}

}  // namespace

TEST_CASE("warps and their merge give attention, for any rows, runs and head size") {
  std::mt19937 random(5);
  for (const std::uint32_t rows : {0U, 1U, 3U, 64U, 65U, 400U, 1111U}) {
    check<cuda::bf16_elements, 4>(128, rows, random);
    check<cuda::f16_elements, 1>(64, rows, random);
    check<cuda::f32_elements, 3>(96, rows, random);
    check<cuda::bf16_elements, 2>(256, rows, random);
    check<cuda::f16_elements, 8>(8, rows, random);
    check<cuda::bf16_elements, 7>(40, rows, random);
  }
}

TEST_CASE("rows in a codec are attended to as they are") {
  std::mt19937 random(6);
  for (const auto coding : {row_codec::int8, row_codec::int4})
    for (const std::uint32_t rows : {0U, 1U, 5U, 64U, 333U}) {
      check<cuda::bf16_elements, 4>(128, rows, random, coding);
      check<cuda::f16_elements, 1>(64, rows, random, coding);
      check<cuda::f32_elements, 3>(96, rows, random, coding);
      check<cuda::bf16_elements, 2>(256, rows, random, coding);
      check<cuda::f16_elements, 8>(8, rows, random, coding);
      check<cuda::bf16_elements, 7>(40, rows, random, coding);
      check<cuda::bf16_elements, 2>(48, rows, random, coding);
      check<cuda::bf16_elements, 2>(88, rows, random, coding);
    }
}
