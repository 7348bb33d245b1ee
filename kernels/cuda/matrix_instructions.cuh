// What the lanes of a warp do together on tensor cores, as the PTX ISA has it.
#pragma once

#include <weft/kernels/dtype.hpp>

#include <cuda_runtime.h>

#include <cstdint>

#if defined(__CUDACC__)

namespace weft::kernels::cuda {

// Four 8 x 8 matrices of 16-bit elements from the block's own memory: lane 8 m + r says where row r of
// matrix m begins, at a multiple of 16 bytes. A lane gets two neighbours of row lane / 4, or, transposed,
// of that column.
template <bool Transposed>
__device__ void load_matrices(const std::uint16_t* row, std::uint32_t& m0, std::uint32_t& m1,
                              std::uint32_t& m2, std::uint32_t& m3) {
  const auto from = static_cast<std::uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (Transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m0), "=r"(m1), "=r"(m2), "=r"(m3)
                 : "r"(from)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m0), "=r"(m1), "=r"(m2), "=r"(m3)
                 : "r"(from)
                 : "memory");
}

// c += a b, 16 x 16 by 16 x 8; see tensor_tile.hpp for who has what.
template <class Elements>
__device__ void multiply_add(std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                             std::uint32_t b0, std::uint32_t b1, float& c0, float& c1, float& c2, float& c3) {
  static_assert(Elements::type == dtype::bf16 || Elements::type == dtype::f16);
  if constexpr (Elements::type == dtype::bf16)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

}  // namespace weft::kernels::cuda

#else
#include "cuda_on_host/matrix_instructions.hpp"
#endif
