// Which arithmetic a product of rows and weights (or of queries and keys) may use.
#pragma once

#include <weft/kernels/dtype.hpp>

#include <cstdint>

namespace weft::kernels {

// automatic: bf16 operands with f32 sums where the stored side is bf16 and the CPU multiplies bf16 natively,
//            and where arithmetic decides, no slower than f32; everything else as f32.
// f32:       operands are widened to f32 first; only storage is narrow.
// bf16:      as automatic, also where products of f32 are faster.
enum class products : std::uint8_t { automatic, f32, bf16 };

// Whether this CPU multiplies bf16 natively (AVX512_BF16).
bool native_bf16_products();

// The type that the f32 side (activations, queries) is rounded to before it meets a `stored` operand: bf16 or
// f32.
dtype operand_dtype(products allowed, dtype stored);

// The same for products of many rows, where arithmetic decides and not memory.
dtype dense_operand_dtype(products allowed, dtype stored);

}  // namespace weft::kernels
