// What CUDA would not launch is not launched here.
#include "on_host.hpp"

#include <vector>

namespace weft::kernels::cuda_on_host {
namespace {

__global__ void count_threads(unsigned* count) {
  atomicAdd(count, 1U);
}

TEST_CASE("launches beyond CUDA's limits are refused, and nothing runs") {
  shared_array<unsigned> count(1);
  count[0] = 0;
  const auto launched = [&](const launch_shape& shape) {
    return launch_kernel<count_threads>(shape, nullptr, count.data());
  };
  CHECK(launched({1, 1025}) == cudaErrorInvalidConfiguration);
  CHECK(launched({1, 0}) == cudaErrorInvalidConfiguration);
  CHECK(launched({0, 32}) == cudaErrorInvalidConfiguration);
  CHECK(launched({dim3(1, 65536), 32}) == cudaErrorInvalidConfiguration);
  CHECK(launched({dim3(1, 1, 65536), 32}) == cudaErrorInvalidConfiguration);
  CHECK(launched({dim3(1, 0), 32}) == cudaErrorInvalidConfiguration);
  CHECK(launched({1, 32, (48 << 10) + 1}) == cudaErrorInvalidValue);
  CHECK(count[0] == 0);
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK(launched({1, 1024, 48 << 10}) == cudaSuccess);
  CHECK(count[0] == 1024);
  CHECK(launched({dim3(3, 2, 2), 33}) == cudaSuccess);
  CHECK(count[0] == 1024 + 12 * 33);
}

__global__ void note_places(unsigned* places) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  places[block * blockDim.x + threadIdx.x] = block * 1000 + threadIdx.x;
}

TEST_CASE("every thread of every block runs once, as who it is") {
  const launch_shape shape{dim3(5, 3, 2), 70};
  shared_array<unsigned> places(std::size_t{5} * 3 * 2 * 70);
  REQUIRE(launch_kernel<note_places>(shape, nullptr, places.data()) == cudaSuccess);
  for (unsigned i = 0; i < places.size(); ++i)
    REQUIRE(places[i] == i / 70 * 1000 + i % 70);
}

__global__ void take_tickets(unsigned* next, unsigned* tickets) {
  tickets[atomicAdd(next, 1U)] = blockIdx.x * blockDim.x + threadIdx.x;
}

std::vector<unsigned> order_from(std::uint64_t seed) {
  shared_array<unsigned> next(1), tickets(std::size_t{4} * 64);
  next[0] = 0;
  draw_orders_from(seed);
  CHECK(launch_kernel<take_tickets>({4, 64}, nullptr, next.data(), tickets.data()) == cudaSuccess);
  return {tickets.data(), tickets.data() + tickets.size()};
}

TEST_CASE("threads and blocks run in an order that a seed gives") {
  CHECK(order_from(5) == order_from(5));
  CHECK(order_from(5) != order_from(6));
  // The first to run is not always the first one.
  unsigned other = 0;
  for (std::uint64_t seed = 0; seed < 20; ++seed)
    other += order_from(seed)[0] != 0 ? 1 : 0;
  CHECK(other > 10);
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
