// A model's weights in device memory.
#pragma once

#include <weft/device/device.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/products.hpp>

#include "../model_weights.hpp"
#include "weight_upload.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace weft::engine {

struct resident_layer {
  const float* attention_norm = nullptr;
  const float* mlp_norm = nullptr;
  const float* query_norm = nullptr;  // or null
  const float* key_norm = nullptr;
  resident_matrix qkv, attention_out, gate_up, down;
};

// The token embedding is not among them: it is read on the host, some rows a pass.
class resident_weights {
 public:
  // Matrices in the type that they were stored in, or as f32 where products are to be made in that.
  // `out_of_space` if there is no memory for them.
  static result<resident_weights> upload(const model_weights& weights, kernels::products allowed,
                                         const std::shared_ptr<device::device>& owner,
                                         device::stream& stream);

  const resident_layer& layer(std::uint32_t number) const { return layers_[number]; }
  const float* final_norm() const { return final_norm_; }
  const resident_matrix& output() const { return output_; }

 private:
  device::memory memory_;
  std::vector<resident_layer> layers_;
  const float* final_norm_ = nullptr;
  resident_matrix output_;
};

}  // namespace weft::engine
