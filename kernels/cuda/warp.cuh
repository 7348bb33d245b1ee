// A warp as kernels' bodies see it, on the device: a value with one element per lane is a scalar here.
#pragma once

#include "cuda/attention_decode_body.hpp"

namespace weft::kernels::cuda {

class device_warp {
 public:
  using f32 = float;
  using mask = bool;

  __device__ device_warp() : lane_(threadIdx.x % warp_lanes) {}

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
  std::uint32_t lane_;
};

}  // namespace weft::kernels::cuda
