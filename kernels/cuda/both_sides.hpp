// What a kernel's body is marked with: a function of the device, and of the host, where its tests run.
#pragma once

#if defined(__CUDACC__)
#define WEFT_BOTH_SIDES __host__ __device__
#else
#define WEFT_BOTH_SIDES
#endif

// In front of a loop whose values must stay in registers.
#if defined(__CUDA_ARCH__)
#define WEFT_UNROLL _Pragma("unroll")
#else
#define WEFT_UNROLL
#endif
