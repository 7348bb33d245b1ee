#include "cuda_on_host/grid.hpp"

#include "cuda_on_host/multiprocessor.hpp"
#include "cuda_on_host/report.hpp"
#include "cuda_on_host/runtime_state.hpp"
#include "cuda_on_host/sanitizers.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <sstream>
#include <string_view>

namespace weft::kernels::cuda_on_host {

namespace {

constexpr std::uint32_t most_threads = 1024;
constexpr std::uint32_t most_blocks_x = 0x7FFFFFFF;
constexpr std::uint32_t most_blocks_yz = 65535;
// Without a check for races one block's memory and stacks are enough.
constexpr std::size_t multiprocessors = finds_races ? 4 : 1;

cudaError_t check(const grid_shape& shape) {
  const dim3& blocks = shape.blocks;
  if (shape.threads == 0 || shape.threads > most_threads || blocks.x == 0 || blocks.x > most_blocks_x ||
      blocks.y == 0 || blocks.y > most_blocks_yz || blocks.z == 0 || blocks.z > most_blocks_yz)
    return cudaErrorInvalidConfiguration;
  return shape.shared_bytes > most_block_bytes ? cudaErrorInvalidValue : cudaSuccess;
}

// Out of `... Kernel = NAME; ...`.
std::string_view name_in(std::string_view text) {
  constexpr std::string_view before = "Kernel = ";
  if (const auto at = text.find(before); at != text.npos) text.remove_prefix(at + before.size());
  return text.substr(0, text.find(';'));
}

std::array<multiprocessor, multiprocessors>& device() {
  static std::array<multiprocessor, multiprocessors> all;
  return all;
}

}  // namespace

void run_grid(const grid_shape& shape, const char* kernel, void (*run)(const void*), const void* arguments) {
  const hidden from_sanitizers;
  runtime_state& state = the_runtime();
  if (state.error == cudaErrorLaunchFailure) return;
  if (const auto error = check(shape); error != cudaSuccess) {
    state.error = error;
    return;
  }
  for (multiprocessor& each : device())
    each.prepare(shape.threads);
  launch of{shape.blocks, shape.threads, shape.shared_bytes, run, arguments};
  std::vector<std::uint64_t> order(std::uint64_t{shape.blocks.x} * shape.blocks.y * shape.blocks.z);
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(state.seed++);
  std::shuffle(order.begin(), order.end(), random);
  release(&of.begun);
  for (std::size_t i = 0; i < order.size(); ++i) {
    const std::uint64_t row = order[i] / shape.blocks.x;
    const uint3 block{static_cast<unsigned>(order[i] % shape.blocks.x),
                      static_cast<unsigned>(row % shape.blocks.y),
                      static_cast<unsigned>(row / shape.blocks.y)};
    const std::string why = device()[i % multiprocessors].run(of, block, random());
    if (why.empty()) continue;
    state.error = cudaErrorLaunchFailure;
    std::ostringstream report;
    report << name_in(kernel) << ", block (" << block.x << ", " << block.y << ", " << block.z << "), " << why;
    state.report = report.str();
    std::fprintf(stderr, "cuda_on_host: %s\n", state.report.c_str());
    break;
  }
  acquire(&of.ended);
}

}  // namespace weft::kernels::cuda_on_host
