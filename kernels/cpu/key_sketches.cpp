#include <weft/kernels/convert.hpp>
#include <weft/kernels/key_sketches.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/key_sketches.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/numbers-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Sums of the queries' channels, weighted by the codes of one tile's rows: out[line * out_stride + row].
template <std::size_t lines>
HWY_INLINE void code_sums(const std::uint16_t* tile, std::size_t bits, std::size_t channels, const float* q,
                          float* out, std::size_t out_stride) {
  const f32_tag tag;
  const u32_tag bit_tag;
  for (std::size_t part = 0; part < key_sketches::tile_rows; part += weft::kernels::HWY_NAMESPACE::lanes) {
    const auto own_bit = hn::Shl(hn::Set(bit_tag, 1U << part), hn::Iota(bit_tag, 0));
    f32_vector acc[lines];
    for (std::size_t line = 0; line < lines; ++line)
      acc[line] = hn::Zero(tag);
    for (std::size_t bit = 0; bit < bits; ++bit) {
      for (std::size_t line = 0; line < lines; ++line)
        acc[line] = hn::Add(acc[line], acc[line]);
      const std::uint16_t* const plane = tile + bit * channels;
      for (std::size_t channel = 0; channel < channels; ++channel) {
        const auto set = hn::RebindMask(tag, hn::TestBit(hn::Set(bit_tag, plane[channel]), own_bit));
        for (std::size_t line = 0; line < lines; ++line)
          acc[line] = hn::Add(acc[line], hn::IfThenElseZero(set, hn::Set(tag, q[line * channels + channel])));
      }
    }
    for (std::size_t line = 0; line < lines; ++line)
      hn::StoreU(acc[line], tag, out + line * out_stride + part);
  }
}

// out = factor * (2 * out - all) + base
HWY_INLINE void scale_sums(const std::uint16_t* factors, float all, float base, float* out) {
  const f32_tag tag;
  for (std::size_t part = 0; part < key_sketches::tile_rows; part += weft::kernels::HWY_NAMESPACE::lanes) {
    const f32_vector sums = hn::LoadU(tag, out + part);
    const f32_vector odd = hn::Sub(hn::Add(sums, sums), hn::Set(tag, all));
    hn::StoreU(hn::MulAdd(bf16_elements::load(factors + part), odd, hn::Set(tag, base)), tag, out + part);
  }
}

template <std::size_t lines>
HWY_INLINE void products_of_lines(const key_sketches& keys, const float* q, const float* all,
                                  const float* base, float* out, std::size_t out_stride) {
  constexpr std::uint32_t rows = key_sketches::tile_rows;
  std::uint16_t last[rows] = {};
  for (std::uint32_t first = 0; first < keys.rows(); first += rows) {
    const std::uint16_t* factors = keys.factors().data() + first;
    if (first + rows > keys.rows()) {
      std::copy_n(factors, keys.rows() - first, last);
      factors = last;
    }
    code_sums<lines>(keys.tile(first / rows), keys.bits(), keys.channels(), q, out + first, out_stride);
    for (std::size_t line = 0; line < lines; ++line)
      scale_sums(factors, all[line], base[line], out + line * out_stride + first);
  }
}

// q: in units of the channels' spreads. all: what a row of ones would sum to; base: the middles' products.
void products(const key_sketches& keys, const float* q, const float* all, const float* base,
              std::size_t lines, float* out, std::size_t out_stride) {
  const std::size_t channels = keys.channels();
  std::size_t line = 0;
  const auto pass = [&]<std::size_t wide>() HWY_ATTR {
    for (; line + wide <= lines; line += wide)
      products_of_lines<wide>(keys, q + line * channels, all + line, base + line, out + line * out_stride,
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
  const std::size_t size = std::size_t{bits_} * channels_;
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
  std::uint16_t* const own = tiles_.data() + tiles_.size() - std::size_t{bits_} * channels_;
  const auto levels = static_cast<std::int32_t>(1U << bits_);
  const float distance = level_distances[bits_] * std::sqrt(squares / static_cast<float>(channels_));
  float product = 0;
  for (std::size_t c = 0; c < channels_; ++c) {
    const float steps = distance > 0 ? distances_[c] / distance : 0.0F;
    const float bounded =
        std::clamp(std::floor(steps), static_cast<float>(-levels / 2), static_cast<float>(levels / 2 - 1));
    const auto code = static_cast<std::uint32_t>(static_cast<std::int32_t>(bounded) + levels / 2);
    product += distances_[c] * static_cast<float>(2 * static_cast<std::int32_t>(code) + 1 - levels);
    for (std::uint32_t bit = 0; bit < bits_; ++bit)
      if ((code >> (bits_ - 1 - bit) & 1U) != 0)
        own[bit * channels_ + c] |= static_cast<std::uint16_t>(1U << row % tile_rows);
  }
  const float factor = product > 0 ? squares / product : 0.0F;
  std::uint16_t narrow = 0;
  from_f32(dtype::bf16, &factor, reinterpret_cast<std::byte*>(&narrow), 1);
  factors_.push_back(narrow);
}

std::size_t key_sketches::size_bytes() const {
  return (tiles_.capacity() + factors_.capacity()) * sizeof(std::uint16_t) +
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
    code = 2 * code + (tile(row / tile_rows)[bit * channels_ + channel] >> row % tile_rows & 1);
  return 2 * code + 1 - static_cast<std::int32_t>(1U << bits_);
}

void sketch_products(const key_sketches& keys, const float* queries, std::uint32_t lines, float* out,
                     std::size_t out_stride) {
  const std::size_t channels = keys.channels();
  const auto ones = static_cast<float>((1U << keys.bits()) - 1);
  constexpr std::uint32_t most_lines = 8;
  thread_local std::vector<float> scaled;
  for (std::uint32_t first = 0; first < lines; first += most_lines) {
    const std::uint32_t count = std::min(most_lines, lines - first);
    scaled.resize(count * channels);
    float all[most_lines];
    float base[most_lines];
    for (std::uint32_t line = 0; line < count; ++line) {
      const float* const q = queries + (first + line) * channels;
      all[line] = base[line] = 0;
      for (std::size_t c = 0; c < channels; ++c) {
        const float own = q[c] * keys.spreads()[c];
        scaled[line * channels + c] = own;
        all[line] += own * ones;
        base[line] += q[c] * keys.middles()[c];
      }
    }
    HWY_DYNAMIC_DISPATCH(products)
    (keys, scaled.data(), all, base, count, out + std::size_t{first} * out_stride, out_stride);
  }
}

}  // namespace weft::kernels
#endif
