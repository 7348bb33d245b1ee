// A surrogate (weft/engine/surrogate.hpp) in device memory, and what it guesses there.
#pragma once

#include <weft/engine/compute_device.hpp>

#include "weight_upload.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

struct surrogate_matrices;

class resident_surrogate {
 public:
  // `out_of_space` where it would take more than a 16th of what is free; what the device reports.
  static result<std::shared_ptr<resident_surrogate>> upload(std::span<const surrogate_matrices> layers,
                                                            std::shared_ptr<const compute_device> on);

  // Behind what the stream was given so far. normed: f32 [rows][hidden_size] on the device; out: of the
  // host's pinned memory, [rows][kv_heads], there when the stream was waited for. One stream at a time: that
  // of the device's passes.
  void guess(std::uint32_t layer, const float* normed, std::uint32_t rows, float* out,
             device::stream& behind) const;

 private:
  // The second one reads what the first one gives; of a linear surrogate there is only that.
  struct resident_layer_matrices {
    resident_matrix hidden, output;
  };

  explicit resident_surrogate(std::shared_ptr<const compute_device> on) : on_(std::move(on)) {}
  void multiply(const resident_matrix& matrix, const float* x, std::uint32_t rows, float* y,
                device::stream& behind) const;

  std::shared_ptr<const compute_device> on_;
  device::memory memory_;
  std::vector<resident_layer_matrices> layers_;
  float* between_ = nullptr;  // of some rows
  float* guesses_ = nullptr;  // of as many
};

}  // namespace weft::engine
