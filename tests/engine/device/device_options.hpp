// How the runners of these tests compute, so that a device's results can be held against the CPU's: in f32.
#pragma once

#include <weft/engine/runner.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace weft::engine::test {

// On the CPU where `device` is null.
inline runner_options options_on(std::shared_ptr<const compute_device> device,
                                 kernels::dtype cache = kernels::dtype::f16) {
  return {.threads = 1, .cache_dtype = cache, .products = arithmetic::f32, .device = std::move(device)};
}

// Likewise, of passes that come in several parts.
inline runner_options options_in_parts(std::shared_ptr<const compute_device> device, std::uint32_t chunk_rows,
                                       kernels::dtype cache = kernels::dtype::f16) {
  auto options = options_on(std::move(device), cache);
  options.chunk_rows = chunk_rows;
  return options;
}

}  // namespace weft::engine::test
