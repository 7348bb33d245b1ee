// How a node's configuration says that its model is to be run.
#pragma once

#include <weft/actors/node_config.hpp>
#include <weft/engine/model_outline.hpp>
#include <weft/engine/runner.hpp>

#include <string>

namespace weft::actors {

// `invalid_argument` for a cache type that there is not.
inline result<engine::runner_options> runner_options_of(const node_config& config) {
  engine::runner_options options;
  options.threads = config.threads;
  if (config.cache_dtype == "auto") return options;
  options.cache_dtype = kernels::dtype_from_name(config.cache_dtype);
  if (options.cache_dtype) return options;
  return fail(errc::invalid_argument,
              "unknown cache_dtype `" + config.cache_dtype + "`; auto, f32, bf16 or f16");
}

}  // namespace weft::actors
