// y[outputs] = x[inputs] * W[outputs, inputs]^T + bias, roughly, for what is estimated only: a quarter of the
// bytes of bf16 weights.
//
// Weights are integers from -7 to 7 with a bf16 scale for each output and 64 inputs; inputs become integers
// of at most 127 with a scale for each 64 of them. Sums of 64 products are exact, then multiplied with their
// scales and added up in order: the result is the same, bit for bit, on every CPU and for any threads.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/linear.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::kernels {

class rough_linear {
 public:
  // Whether this CPU multiplies bytes by vectors; without that `linear` is faster.
  static bool is_fast();

  // Of the first `outputs` of another matrix, which is not needed afterwards.
  rough_linear(const linear& exact, std::uint32_t outputs, thread_pool& pool);

  std::uint32_t outputs() const { return outputs_; }
  std::uint32_t inputs() const { return inputs_; }
  std::size_t allocated_bytes() const { return codes_.size_bytes() + scales_.size() * sizeof(scales_[0]); }

  void apply(const float* x, float* y, thread_pool& pool) const;

 private:
  void pack_output(std::uint32_t output, const float* weights);

  std::uint32_t outputs_ = 0;
  std::uint32_t inputs_ = 0;
  std::size_t groups_ = 0;             // of 64 inputs
  aligned_buffer codes_;               // [16 outputs][group][8 inputs][output][4 inputs], two codes a byte
  std::vector<std::uint16_t> scales_;  // bf16: [16 outputs][group][output]
  std::vector<float> bias_;            // [output], or empty
};

}  // namespace weft::kernels
