// What is known of a model without loading it: reads its files, keeps none of its weights.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/model_spec.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/kernels/dtype.hpp>

#include <filesystem>
#include <optional>
#include <vector>

namespace weft::engine {

class runner;

struct model_outline {
  model_config config;
  block::model_spec spec;
  kv_shape shape;                  // of a cache of all heads
  std::vector<float> frequencies;  // of RoPE
};

// The same as of a runner of the whole model that is loaded with that cache dtype; none: the weights' own.
// Errors as those of loading it.
result<model_outline> outline_of(const std::filesystem::path& model_folder,
                                 std::optional<kernels::dtype> cache_dtype);

// Of a runner of the whole model.
model_outline outline_of(const runner& whole);

}  // namespace weft::engine
