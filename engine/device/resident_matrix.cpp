#include "resident_matrix.hpp"

#include "device_kernels.hpp"

namespace weft::engine {

void multiply(const resident_matrix& matrix, product_work work, device_kernels& kernels, device::stream& on) {
  work.weights = matrix.weights;
  work.type = matrix.type;
  work.inputs = matrix.inputs;
  kernels.product(work, on);
  if (matrix.bias == nullptr) return;
  kernels.add_bias({.x = work.y,
                    .x_stride = work.y_stride,
                    .bias = matrix.bias,
                    .rows = work.rows,
                    .columns = work.outputs},
                   on);
}

}  // namespace weft::engine
