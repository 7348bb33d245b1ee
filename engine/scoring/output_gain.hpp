// How large a value row becomes in the hidden state: |W_O v| for the slice of the output projection that
// belongs to a query head. With the Gram matrix W_O' W_O it is a product of head_dim columns, not of
// hidden_size.
#pragma once

#include <weft/engine/runner.hpp>
#include <weft/kernels/linear.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine::scoring {

class output_gain {
 public:
  explicit output_gain(runner& model);

  // out[i] = |W_O v_i| of a layer's query head; values: [rows][head_dim].
  void norms(std::uint32_t layer, std::uint32_t query_head, std::span<const float> values,
             std::span<float> out) const;

 private:
  runner& model_;
  std::vector<kernels::linear> grams_;  // [layer][query_head]
};

}  // namespace weft::engine::scoring
