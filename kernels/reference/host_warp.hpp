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
  template <class Function>
  static f32 by_lane(const Function& function) {
    return f32::by_lane(function);
  }
  static f32 other_lanes(const f32& x, std::uint32_t step) {
    return by_lane([&](auto i) { return x.lane[i ^ step]; });
  }
};

}  // namespace weft::kernels::reference
