// Weights on their way into device memory: one thing behind the other, through pinned memory.
#pragma once

#include <weft/device/device.hpp>
#include <weft/kernels/linear.hpp>
#include <weft/kernels/products.hpp>

#include "resident_matrix.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace weft::engine {

class weight_upload {
 public:
  // Matrices in the type that they were stored in, or as f32 where products are to be made in that. `to` has
  // room for all that comes, `pinned` for a row of it.
  weight_upload(std::byte* to, const device::memory& pinned, kernels::products allowed,
                device::stream& stream)
      : to_(to), pinned_(pinned), allowed_(allowed), stream_(stream) {}

  // On the device.
  static std::size_t bytes_of(const kernels::linear& matrix, kernels::products allowed);
  static std::size_t bytes_of(std::span<const float> vector);

  // What was put there; what a device reports. Nothing for an empty vector.
  result<const float*> vector(std::span<const float> values);
  result<resident_matrix> matrix(const kernels::linear& from);

 private:
  std::byte* to_;
  const device::memory& pinned_;
  kernels::products allowed_;
  device::stream& stream_;
  std::vector<float> row_;
};

}  // namespace weft::engine
