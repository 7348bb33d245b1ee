// A warp as kernels' bodies see it, on the device: a value with one element per lane is a scalar here.
#pragma once

#include "cuda/attention_decode_body.hpp"
#include "cuda/matrix_instructions.cuh"

#include <cmath>

namespace weft::kernels::cuda {

class device_warp {
 public:
  using f32 = float;
  using mask = bool;

  // One for each lane; a body names its own lane only.
  template <class T>
  class each_lanes {
   public:
    __device__ T& operator[](std::uint32_t) { return value_; }
    __device__ const T& operator[](std::uint32_t) const { return value_; }

   private:
    T value_{};
  };

  __device__ device_warp() : lane_(threadIdx.x % warp_lanes) {}

  template <class Function>
  __device__ void each(const Function& function) const {
    function(lane_);
  }
  // The lanes for which it is true, as bits.
  template <class Function>
  __device__ std::uint32_t ballot(const Function& function) const {
    return __ballot_sync(every_lane, function(lane_));
  }
  // `add(key, how often)` for the keys of the first `count` lanes, once for each different key.
  template <class Add>
  __device__ void tally(const each_lanes<std::uint32_t>& keys, std::uint32_t count, const Add& add) const {
    const unsigned present = __ballot_sync(every_lane, lane_ < count);
    if (lane_ >= count) return;
    const unsigned same = __match_any_sync(present, keys[lane_]);
    if (lanes_before(same, lane_) == 0) add(keys[lane_], lanes_in(same));
  }
  // Of a lane and of all before it.
  template <class T>
  __device__ each_lanes<T> running_sums(const each_lanes<T>& values) const {
    each_lanes<T> sums = values;
    for (std::uint32_t step = 1; step < warp_lanes; step *= 2) {
      const T other = __shfl_up_sync(every_lane, sums[lane_], step);
      if (lane_ >= step) sums[lane_] += other;
    }
    return sums;
  }
  template <class T>
  __device__ T of_lane(const each_lanes<T>& values, std::uint32_t lane) const {
    return __shfl_sync(every_lane, values[lane_], static_cast<int>(lane));
  }

  // Of the lanes whose numbers differ in bit `step`.
  template <class T>
  __device__ each_lanes<T> other_lanes(each_lanes<T> values, std::uint32_t step) const {
    values[lane_] = __shfl_xor_sync(every_lane, values[lane_], static_cast<int>(step));
    return values;
  }

  // Of the four lanes of a quad, for each of them; of all quads, for each place in a quad.
  __device__ each_lanes<float> sum_of_quad(const each_lanes<float>& values) const {
    return folded(values, 1, 4, [](float a, float b) { return a + b; });
  }
  __device__ each_lanes<float> max_of_quad(const each_lanes<float>& values) const {
    return folded(values, 1, 4, [](float a, float b) { return fmaxf(a, b); });
  }
  __device__ each_lanes<float> sum_over_quads(const each_lanes<float>& values) const {
    return folded(values, 4, warp_lanes, [](float a, float b) { return a + b; });
  }
  __device__ each_lanes<float> max_over_quads(const each_lanes<float>& values) const {
    return folded(values, 4, warp_lanes, [](float a, float b) { return fmaxf(a, b); });
  }

  // `address(lane)`: see matrix_instructions.cuh.
  template <bool Transposed, class Address>
  __device__ void load_matrices(const Address& address, each_lanes<std::uint32_t> (&to)[4]) const {
    cuda::load_matrices<Transposed>(address(lane_), to[0][lane_], to[1][lane_], to[2][lane_], to[3][lane_]);
  }
  // c += a b.
  template <class Elements>
  __device__ void multiply_add(const each_lanes<std::uint32_t> (&a)[4], const each_lanes<std::uint32_t>& b0,
                               const each_lanes<std::uint32_t>& b1, each_lanes<float> (&c)[4]) const {
    cuda::multiply_add<Elements>(a[0][lane_], a[1][lane_], a[2][lane_], a[3][lane_], b0[lane_], b1[lane_],
                                 c[0][lane_], c[1][lane_], c[2][lane_], c[3][lane_]);
  }

  __device__ f32 all(float x) const { return x; }
  __device__ mask both(mask a, mask b) const { return a && b; }
  __device__ f32 select(mask m, f32 yes, f32 no) const { return m ? yes : no; }
  __device__ f32 max(f32 a, f32 b) const { return fmaxf(a, b); }
  __device__ f32 exp2(f32 x) const { return exp2f(x); }

  // Lanes whose number within its team is below `count`; lanes whose team's number is.
  __device__ mask team_lane_below(std::uint32_t team, std::uint32_t count) const {
    return lane_ % team < count;
  }
  __device__ mask team_below(std::uint32_t team, std::uint32_t count) const { return lane_ / team < count; }

  __device__ f32 sum_over_team(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = team / 2; step > 0; step /= 2)
      x += __shfl_xor_sync(every_lane, x, step);
    return x;
  }
  __device__ f32 sum_over_teams(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = warp_lanes / 2; step >= team; step /= 2)
      x += __shfl_xor_sync(every_lane, x, step);
    return x;
  }
  __device__ f32 max_over_teams(std::uint32_t team, f32 x) const {
    for (std::uint32_t step = warp_lanes / 2; step >= team; step /= 2)
      x = fmaxf(x, __shfl_xor_sync(every_lane, x, step));
    return x;
  }

  // The same elements for every team: 8 of each lane; zeros where the mask is off.
  __device__ void load_f32(const float* from, std::uint32_t team, mask on, f32 (&to)[lane_elements]) const {
    for (int i = 0; i < lane_elements; ++i)
      to[i] = on ? from[lane_ % team * lane_elements + i] : 0.0F;
  }
  // Team t reads row t, of `head_dim` channels.
  template <class Rows>
  __device__ void load(const std::byte* codes, const std::uint16_t* scales, std::uint32_t team,
                       std::uint32_t head_dim, mask on, f32 (&to)[lane_elements]) const {
    const std::size_t row = lane_ / team;
    if (on) {
      Rows::widen(codes + row * Rows::row_bytes(head_dim), scales + row * Rows::scales(head_dim),
                  lane_ % team * lane_elements, head_dim, to);
    } else {
      for (int i = 0; i < lane_elements; ++i)
        to[i] = 0.0F;
    }
  }
  __device__ void store_first(f32 x, float* to) const {
    if (lane_ == 0) *to = x;
  }
  // The first team's elements.
  __device__ void store_team(const f32 (&from)[lane_elements], std::uint32_t team, mask on, float* to) const {
    if (lane_ >= team || !on) return;
    for (int i = 0; i < lane_elements; ++i)
      to[lane_ * lane_elements + i] = from[i];
  }

 private:
  static constexpr unsigned every_lane = 0xFFFFFFFFU;

  // Over lanes that differ in steps from `first` to `end`.
  template <class Fold>
  __device__ each_lanes<float> folded(each_lanes<float> values, std::uint32_t first, std::uint32_t end,
                                      const Fold& fold) const {
    for (std::uint32_t step = first; step < end; step *= 2)
      values[lane_] = fold(values[lane_], __shfl_xor_sync(every_lane, values[lane_], static_cast<int>(step)));
    return values;
  }

  std::uint32_t lane_;
};

}  // namespace weft::kernels::cuda
