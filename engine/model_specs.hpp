// How a model's config becomes what its blocks are known by, and what its keys are rotated with.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/block/model_spec.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/kernels/dtype.hpp>

#include <vector>

namespace weft::engine {

block::model_spec spec_of(const model_config& config, kernels::dtype cache_dtype,
                          const id128& weights_digest);

std::vector<float> rope_frequencies_of(const model_config& config);

}  // namespace weft::engine
