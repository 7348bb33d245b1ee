// Reads beyond a variable that a block shares: AddressSanitizer ends the program. Built for it alone.
#include "on_host.hpp"

#include <cstdint>

namespace weft::kernels::cuda_on_host {
namespace {

__global__ void read_at(std::uint32_t place, std::uint32_t* out) {
  WEFT_SHARED(std::uint32_t[33], values);
  values[threadIdx.x] = threadIdx.x;
  __syncthreads();
  const std::uint32_t* const volatile begin = values;  // a plain array's bounds are not known any more
  out[threadIdx.x] = begin[(threadIdx.x + place) % 34];
}

TEST_CASE("beyond the variable") {
  shared_array<std::uint32_t> out(32);
  CHECK(launch_kernel<read_at>({1, 1}, nullptr, 33U, out.data()) == cudaSuccess);
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
