#include <weft/kernels/convert.hpp>
#include <weft/kernels/key_sketches.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#ifndef WEFT_KERNELS_SKETCH_LINE
#define WEFT_KERNELS_SKETCH_LINE
namespace weft::kernels {
// Of a query whose products with the spreads became integers.
struct sketch_line {
  float scale = 0;  // of the integers
  float all = 0;    // what a row of the highest codes would sum to
  float base = 0;   // the middles' product
};
}  // namespace weft::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/key_sketches.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/dot_bytes-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Queries as integers: [line][four channels], a byte each.
struct byte_lines {
  const std::int32_t* values;
  std::size_t groups;  // of four channels
};

// Sums of the queries' integers, weighted by the codes of one tile's rows: out[line][row].
template <std::size_t lines>
HWY_INLINE void code_sums(const std::uint64_t* tile, std::size_t bits, const byte_lines& q,
                          std::int32_t* out) {
  const hn::CappedTag<std::int32_t, 8> tag;
  const hn::RebindToUnsigned<decltype(tag)> bit_tag;
  constexpr std::size_t wide = hn::MaxLanes(tag);
  const auto first_channel = hn::Shl(hn::Set(bit_tag, 1U), hn::ShiftLeft<2>(hn::Iota(bit_tag, 0)));
  for (std::size_t part = 0; part < key_sketches::tile_rows; part += wide) {
    hn::Vec<decltype(tag)> acc[lines];
    for (std::size_t line = 0; line < lines; ++line)
      acc[line] = hn::Zero(tag);
    for (std::size_t bit = 0; bit < bits; ++bit) {
      for (std::size_t line = 0; line < lines; ++line)
        acc[line] = hn::Add(acc[line], acc[line]);
      for (std::size_t group = 0; group < q.groups; ++group) {
        const auto plane = hn::Set(bit_tag, static_cast<std::uint32_t>(tile[group * bits + bit] >> 4 * part));
        auto own_bit = first_channel;
        for (std::size_t channel = 0; channel < 4; ++channel) {
          const auto set = hn::RebindMask(tag, hn::TestBit(plane, own_bit));
          own_bit = hn::ShiftLeft<1>(own_bit);
          for (std::size_t line = 0; line < lines; ++line) {
            const auto* const own = reinterpret_cast<const std::int8_t*>(q.values + line * q.groups + group);
            acc[line] = hn::Add(acc[line], hn::IfThenElseZero(set, hn::Set(tag, own[channel])));
          }
        }
      }
    }
    for (std::size_t line = 0; line < lines; ++line)
      hn::StoreU(acc[line], tag, out + line * key_sketches::tile_rows + part);
  }
}

#if WEFT_KERNELS_NATIVE_BF16
// The same: a mask has a bit of four channels of 16 rows, which are the bytes of one product.
template <std::size_t lines, std::size_t bits>
HWY_INLINE void code_sums_of_bytes(const std::uint64_t* tile, const byte_lines& q, std::int32_t* out) {
  const __m512i one = _mm512_set1_epi8(1);
  __m512i acc[lines];
  for (std::size_t line = 0; line < lines; ++line)
    acc[line] = _mm512_setzero_si512();
  for (std::size_t group = 0; group < q.groups; ++group) {
    __m512i codes = _mm512_maskz_mov_epi8(_cvtu64_mask64(tile[group * bits]), one);
    for (std::size_t bit = 1; bit < bits; ++bit) {
      codes = _mm512_add_epi8(codes, codes);
      codes = _mm512_mask_add_epi8(codes, _cvtu64_mask64(tile[group * bits + bit]), codes, one);
    }
    for (std::size_t line = 0; line < lines; ++line)
      acc[line] = dot_bytes(acc[line], codes, q.values + line * q.groups + group);
  }
  for (std::size_t line = 0; line < lines; ++line)
    _mm512_storeu_si512(out + line * key_sketches::tile_rows, acc[line]);
}
#endif

template <std::size_t lines>
HWY_INLINE void sums_of_tile(const std::uint64_t* tile, std::size_t bits, bool bytes, const byte_lines& q,
                             std::int32_t* out) {
#if WEFT_KERNELS_NATIVE_BF16
  if (bytes) switch (bits) {
      case 1:
        return code_sums_of_bytes<lines, 1>(tile, q, out);
      case 2:
        return code_sums_of_bytes<lines, 2>(tile, q, out);
      case 3:
        return code_sums_of_bytes<lines, 3>(tile, q, out);
      default:
        return code_sums_of_bytes<lines, 4>(tile, q, out);
    }
#endif
  static_cast<void>(bytes);
  code_sums<lines>(tile, bits, q, out);
}

// out = factor * scale * (2 * sum - all) + base
HWY_INLINE void scale_sums(const std::uint16_t* factors, const std::int32_t* sums, const sketch_line& line,
                           float* out) {
  const f32_tag tag;
  for (std::size_t part = 0; part < key_sketches::tile_rows; part += weft::kernels::HWY_NAMESPACE::lanes) {
    const f32_vector own = hn::ConvertTo(tag, hn::LoadU(i32_tag(), sums + part));
    const f32_vector odd = hn::Sub(hn::Add(own, own), hn::Set(tag, line.all));
    const f32_vector factor = hn::Mul(bf16_elements::load(factors + part), hn::Set(tag, line.scale));
    hn::StoreU(hn::MulAdd(factor, odd, hn::Set(tag, line.base)), tag, out + part);
  }
}

template <std::size_t lines>
HWY_INLINE void products_of_lines(const key_sketches& keys, const byte_lines& q, const sketch_line* scales,
                                  float* out, std::size_t out_stride) {
  constexpr std::uint32_t rows = key_sketches::tile_rows;
#if WEFT_KERNELS_NATIVE_BF16
  const bool bytes = multiplies_bytes();
#else
  constexpr bool bytes = false;
#endif
  std::uint16_t last[rows] = {};
  alignas(64) std::int32_t sums[lines * rows];
  for (std::uint32_t first = 0; first < keys.rows(); first += rows) {
    const std::uint16_t* factors = keys.factors().data() + first;
    if (first + rows > keys.rows()) {
      std::copy_n(factors, keys.rows() - first, last);
      factors = last;
    }
    sums_of_tile<lines>(keys.tile(first / rows), keys.bits(), bytes, q, sums);
    for (std::size_t line = 0; line < lines; ++line)
      scale_sums(factors, sums + line * rows, scales[line], out + line * out_stride + first);
  }
}

void products(const key_sketches& keys, const std::int32_t* q, const sketch_line* scales, std::size_t lines,
              float* out, std::size_t out_stride) {
  const std::size_t groups = (keys.channels() + 3) / 4;
  std::size_t line = 0;
  const auto pass = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= lines; line += wide)
      products_of_lines<wide>(keys, {q + line * groups, groups}, scales + line, out + line * out_stride,
                              out_stride);
  };
  pass.template operator()<8>();
  pass.template operator()<4>();
  pass.template operator()<2>();
  pass.template operator()<1>();
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(products);

namespace {

// Between two levels, in standard deviations: least mean error of a normal distribution (Max 1960).
constexpr std::array<float, key_sketches::most_bits + 1> level_distances{0, 1.5958F, 0.9957F, 0.5860F,
                                                                         0.3352F};

}  // namespace

key_sketches::key_sketches(std::uint32_t channels, std::uint32_t bits)
    : channels_(channels),
      bits_(bits),
      middles_(channels, 0.0F),
      spreads_(channels, 1.0F),
      distances_(channels) {
  if (channels == 0 || bits == 0 || bits > most_bits)
    throw std::invalid_argument("key_sketches: no channels, or not from 1 to 4 bits of each");
}

void key_sketches::fit(std::span<const float> sample) {
  const std::size_t count = sample.size() / channels_;
  if (count == 0) return;
  std::vector<double> sum(channels_, 0.0), squares(channels_, 0.0);
  for (std::size_t i = 0; i < count * channels_; ++i) {
    sum[i % channels_] += sample[i];
    squares[i % channels_] += double{sample[i]} * sample[i];
  }
  for (std::size_t c = 0; c < channels_; ++c) {
    const double middle = sum[c] / static_cast<double>(count);
    const double variance = squares[c] / static_cast<double>(count) - middle * middle;
    middles_[c] = static_cast<float>(middle);
    // A channel that never changed may do so later.
    spreads_[c] = variance > 1e-8 ? static_cast<float>(std::sqrt(variance)) : 1.0F;
  }
}

void key_sketches::add(std::span<const float> keys) {
  for (; keys.size() >= channels_; keys = keys.subspan(channels_))
    add_row(keys.data());
}

// Memory grows by an eighth at a time, not twofold: it is what sketches are to save.
void key_sketches::add_tile() {
  const std::size_t size = tile_words();
  if (tiles_.size() + size > tiles_.capacity()) {
    const std::size_t more = tiles_.size() / size / 8 + 1;
    tiles_.reserve(tiles_.size() + more * size);
    factors_.reserve(factors_.size() + more * tile_rows);
  }
  tiles_.resize(tiles_.size() + size, 0);
}

void key_sketches::add_row(const float* key) {
  float squares = 0;
  for (std::size_t c = 0; c < channels_; ++c) {
    distances_[c] = (key[c] - middles_[c]) / spreads_[c];
    squares += distances_[c] * distances_[c];
  }
  const std::uint32_t row = rows();
  if (row % tile_rows == 0) add_tile();
  std::uint64_t* const own = tiles_.data() + tiles_.size() - tile_words();
  const auto half = static_cast<std::int32_t>(1U << (bits_ - 1));  // of the levels
  const float distance = level_distances[bits_] * std::sqrt(squares / static_cast<float>(channels_));
  float product = 0;
  for (std::size_t c = 0; c < channels_; ++c) {
    const float steps = distance > 0 ? distances_[c] / distance : 0.0F;
    const float bounded =
        std::clamp(std::floor(steps), static_cast<float>(-half), static_cast<float>(half - 1));
    const auto step = static_cast<std::int32_t>(bounded);
    const auto code = static_cast<std::uint32_t>(step + half);
    product += distances_[c] * static_cast<float>(2 * step + 1);
    for (std::uint32_t bit = 0; bit < bits_; ++bit)
      if ((code >> (bits_ - 1 - bit) & 1U) != 0)
        own[c / 4 * bits_ + bit] |= std::uint64_t{1} << (4 * (row % tile_rows) + c % 4);
  }
  const float factor = product > 0 ? squares / product : 0.0F;
  std::uint16_t narrow = 0;
  from_f32(dtype::bf16, &factor, reinterpret_cast<std::byte*>(&narrow), 1);
  factors_.push_back(narrow);
}

std::size_t key_sketches::size_bytes() const {
  return tiles_.capacity() * sizeof(std::uint64_t) + factors_.capacity() * sizeof(std::uint16_t) +
         (middles_.size() + spreads_.size()) * sizeof(float);
}

float key_sketches::factor(std::uint32_t row) const {
  float wide = 0;
  to_f32(dtype::bf16, reinterpret_cast<const std::byte*>(&factors_[row]), &wide, 1);
  return wide;
}

std::int32_t key_sketches::level(std::uint32_t row, std::uint32_t channel) const {
  std::int32_t code = 0;
  for (std::uint32_t bit = 0; bit < bits_; ++bit)
    code = 2 * code + static_cast<std::int32_t>(tile(row / tile_rows)[channel / 4 * bits_ + bit] >>
                                                    (4 * (row % tile_rows) + channel % 4) &
                                                1U);
  return 2 * code + 1 - static_cast<std::int32_t>(1U << bits_);
}

void sketch_products(const key_sketches& keys, const float* queries, std::uint32_t lines, float* out,
                     std::size_t out_stride) {
  const std::size_t channels = keys.channels();
  const std::size_t groups = (channels + 3) / 4;
  const auto ones = static_cast<float>((1U << keys.bits()) - 1);
  constexpr std::uint32_t most_lines = 8;
  thread_local std::vector<std::int32_t> integers;
  for (std::uint32_t first = 0; first < lines; first += most_lines) {
    const std::uint32_t count = std::min(most_lines, lines - first);
    integers.assign(count * groups, 0);
    sketch_line scales[most_lines];
    for (std::uint32_t line = 0; line < count; ++line) {
      const float* const q = queries + (first + line) * channels;
      auto& own = scales[line];
      float largest = 0;
      for (std::size_t c = 0; c < channels; ++c) {
        largest = std::max(largest, std::abs(q[c] * keys.spreads()[c]));
        own.base += q[c] * keys.middles()[c];
      }
      own.scale = largest / 127;
      if (!(own.scale > 0)) continue;
      auto* const bytes = reinterpret_cast<std::int8_t*>(integers.data() + line * groups);
      for (std::size_t c = 0; c < channels; ++c) {
        const float steps = std::nearbyint(q[c] * keys.spreads()[c] / own.scale);
        bytes[c] = static_cast<std::int8_t>(steps);
        own.all += steps * ones;
      }
    }
    HWY_DYNAMIC_DISPATCH(products)
    (keys, integers.data(), scales, count, out + std::size_t{first} * out_stride, out_stride);
  }
}

}  // namespace weft::kernels
#endif
