// A warp as the bodies of GPU kernels see it, on the host: a value with one element per lane is all 32 of
// them.
#pragma once

#include "cuda/attention_decode_body.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace weft::kernels::reference {

class host_warp {
 public:
  static constexpr std::uint32_t lanes = cuda::warp_lanes;
  struct f32 {
    std::array<float, lanes> lane{};

    template <class Function>
    static f32 by_lane(const Function& function) {
      f32 result;
      for (std::uint32_t i = 0; i < lanes; ++i)
        result.lane[i] = function(i);
      return result;
    }
    friend f32 operator+(const f32& a, const f32& b) {
      return by_lane([&](auto i) { return a.lane[i] + b.lane[i]; });
    }
    friend f32 operator-(const f32& a, const f32& b) {
      return by_lane([&](auto i) { return a.lane[i] - b.lane[i]; });
    }
    friend f32 operator*(const f32& a, const f32& b) {
      return by_lane([&](auto i) { return a.lane[i] * b.lane[i]; });
    }
  };
  using mask = std::array<bool, lanes>;
  template <class T>
  using each_lanes = std::array<T, lanes>;
  using elements = f32[cuda::lane_elements];

  template <class Function>
  void each(const Function& function) const {
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      function(lane);
  }
  template <class Function>
  std::uint32_t ballot(const Function& function) const {
    std::uint32_t bits = 0;
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      bits |= (function(lane) ? 1U : 0U) << lane;
    return bits;
  }
  template <class Add>
  void tally(const each_lanes<std::uint32_t>& keys, std::uint32_t count, const Add& add) const {
    for (std::uint32_t lane = 0; lane < std::min(count, lanes); ++lane)
      add(keys[lane], 1U);
  }
  template <class T>
  each_lanes<T> running_sums(each_lanes<T> values) const {
    for (std::uint32_t lane = 1; lane < lanes; ++lane)
      values[lane] += values[lane - 1];
    return values;
  }
  template <class T>
  T of_lane(const each_lanes<T>& values, std::uint32_t lane) const {
    return values[lane];
  }

  template <class T>
  each_lanes<T> other_lanes(const each_lanes<T>& values, std::uint32_t step) const {
    each_lanes<T> others{};
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      others[lane] = values[lane ^ step];
    return others;
  }

  each_lanes<float> sum_of_quad(const each_lanes<float>& values) const {
    return folded(values, 1, 4, [](float a, float b) { return a + b; });
  }
  each_lanes<float> max_of_quad(const each_lanes<float>& values) const {
    return folded(values, 1, 4, [](float a, float b) { return std::max(a, b); });
  }
  each_lanes<float> sum_over_quads(const each_lanes<float>& values) const {
    return folded(values, 4, lanes, [](float a, float b) { return a + b; });
  }
  each_lanes<float> max_over_quads(const each_lanes<float>& values) const {
    return folded(values, 4, lanes, [](float a, float b) { return std::max(a, b); });
  }

  // As the PTX ISA describes `ldmatrix`.
  template <bool Transposed, class Address>
  void load_matrices(const Address& address, each_lanes<std::uint32_t> (&to)[4]) const {
    for (std::uint32_t matrix = 0; matrix < 4; ++matrix)
      for (std::uint32_t lane = 0; lane < lanes; ++lane) {
        std::uint32_t pair = 0;
        for (std::uint32_t i = 0; i < 2; ++i) {
          const std::uint32_t row = Transposed ? 2 * (lane % 4) + i : lane / 4;
          const std::uint32_t column = Transposed ? lane / 4 : 2 * (lane % 4) + i;
          pair |= std::uint32_t{address(8 * matrix + row)[column]} << 16 * i;
        }
        to[matrix][lane] = pair;
      }
  }
  // As the PTX ISA describes `mma.m16n8k16`: every element of C by definition.
  template <class Elements>
  void multiply_add(const each_lanes<std::uint32_t> (&a)[4], const each_lanes<std::uint32_t>& b0,
                    const each_lanes<std::uint32_t>& b1, each_lanes<float> (&c)[4]) const {
    float left[16][16];
    float right[16][8];
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      for (std::uint32_t i = 0; i < 2; ++i) {
        const std::uint32_t near = 2 * (lane % 4) + i;
        for (std::uint32_t part = 0; part < 4; ++part)
          left[lane / 4 + part % 2 * 8][near + part / 2 * 8] = element<Elements>(a[part][lane], i);
        right[near][lane / 4] = element<Elements>(b0[lane], i);
        right[near + 8][lane / 4] = element<Elements>(b1[lane], i);
      }
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      for (std::uint32_t e = 0; e < 4; ++e)
        for (std::uint32_t k = 0; k < 16; ++k)
          c[e][lane] += left[lane / 4 + e / 2 * 8][k] * right[k][2 * (lane % 4) + e % 2];
  }

  f32 all(float x) const {
    return by_lane([&](auto) { return x; });
  }
  mask both(const mask& a, const mask& b) const {
    mask result{};
    for (std::uint32_t i = 0; i < lanes; ++i)
      result[i] = a[i] && b[i];
    return result;
  }
  f32 select(const mask& m, const f32& yes, const f32& no) const {
    return by_lane([&](auto i) { return m[i] ? yes.lane[i] : no.lane[i]; });
  }
  f32 max(const f32& a, const f32& b) const {
    return by_lane([&](auto i) { return std::max(a.lane[i], b.lane[i]); });
  }
  f32 exp2(const f32& x) const {
    return by_lane([&](auto i) { return std::exp2(x.lane[i]); });
  }

  mask team_lane_below(std::uint32_t team, std::uint32_t count) const {
    mask result{};
    for (std::uint32_t i = 0; i < lanes; ++i)
      result[i] = i % team < count;
    return result;
  }
  mask team_below(std::uint32_t team, std::uint32_t count) const {
    mask result{};
    for (std::uint32_t i = 0; i < lanes; ++i)
      result[i] = i / team < count;
    return result;
  }

  f32 sum_over_team(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = team / 2; step > 0; step /= 2)
      x = x + other_lanes(x, step);
    return x;
  }
  f32 sum_over_teams(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = lanes / 2; step >= team; step /= 2)
      x = x + other_lanes(x, step);
    return x;
  }
  f32 max_over_teams(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = lanes / 2; step >= team; step /= 2)
      x = max(x, other_lanes(x, step));
    return x;
  }

  void load_f32(const float* from, std::uint32_t team, const mask& on, elements& to) const {
    for (int e = 0; e < cuda::lane_elements; ++e)
      to[e] = by_lane(
          [&](auto i) { return on[i] ? from[i % team * cuda::lane_elements + std::uint32_t(e)] : 0.0F; });
  }
  template <class Rows>
  void load(const std::byte* codes, const std::uint16_t* scales, std::uint32_t team, std::uint32_t head_dim,
            const mask& on, elements& to) const {
    for (std::uint32_t i = 0; i < lanes; ++i) {
      float channels[cuda::lane_elements] = {};
      const std::size_t row = i / team;
      if (on[i])
        Rows::widen(codes + row * Rows::row_bytes(head_dim), scales + row * Rows::scales(head_dim),
                    i % team * cuda::lane_elements, head_dim, channels);
      for (int e = 0; e < cuda::lane_elements; ++e)
        to[e].lane[i] = channels[e];
    }
  }
  void store_first(const f32& x, float* to) const { *to = x.lane[0]; }
  void store_team(const elements& from, std::uint32_t team, const mask& on, float* to) const {
    for (std::uint32_t i = 0; i < team; ++i)
      for (int e = 0; on[i] && e < cuda::lane_elements; ++e)
        to[i * cuda::lane_elements + std::uint32_t(e)] = from[e].lane[i];
  }

 private:
  template <class Fold>
  static each_lanes<float> folded(each_lanes<float> values, std::uint32_t first, std::uint32_t end,
                                  const Fold& fold) {
    for (std::uint32_t step = first; step < end; step *= 2) {
      const auto before = values;
      for (std::uint32_t lane = 0; lane < lanes; ++lane)
        values[lane] = fold(before[lane], before[lane ^ step]);
    }
    return values;
  }
  template <class Elements>
  static float element(std::uint32_t pair, std::uint32_t index) {
    return Elements::widen(static_cast<std::uint16_t>(pair >> 16 * index));
  }
  template <class Function>
  static f32 by_lane(const Function& function) {
    return f32::by_lane(function);
  }
  static f32 other_lanes(const f32& x, std::uint32_t step) {
    return by_lane([&](auto i) { return x.lane[i ^ step]; });
  }
};

}  // namespace weft::kernels::reference
