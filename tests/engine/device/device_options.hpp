// How the runners of these tests compute, so that a device's results can be held against the CPU's: in f32.
#pragma once

#include <weft/engine/runner.hpp>

#include <memory>
#include <utility>

namespace weft::engine::test {

// On the CPU where `device` is null.
inline runner_options options_on(std::shared_ptr<const compute_device> device,
                                 kernels::dtype cache = kernels::dtype::f16) {
  return {.threads = 1, .cache_dtype = cache, .products = arithmetic::f32, .device = std::move(device)};
}

}  // namespace weft::engine::test
