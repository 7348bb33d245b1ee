// SwiGLU of one row, for operations that go on with it at once.
#pragma once

#include <cstddef>

namespace weft::kernels {

void swiglu_row(const float* gate, const float* up, float* out, std::size_t count);

}  // namespace weft::kernels
