// Memory that the threads of a block share, declared in a kernel's body.
//   WEFT_SHARED(float[8], parts);        a variable
//   WEFT_SHARED_OF_LAUNCH(float, memory);   `memory`: as many as the launch asked for
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#if defined(__CUDACC__)
#define WEFT_SHARED(type, name) __shared__ std::type_identity_t<type> name
#define WEFT_SHARED_OF_LAUNCH(type, name) extern __shared__ type name[]
#else
#include "cuda_on_host/block_variables.hpp"
#define WEFT_SHARED(type, name) auto& name = ::weft::kernels::cuda_on_host::block_variable<type>()
#define WEFT_SHARED_OF_LAUNCH(type, name) \
  auto* const name = ::weft::kernels::cuda_on_host::memory_of_launch<type>()
#endif
