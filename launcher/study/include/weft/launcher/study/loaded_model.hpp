// A model folder, ready to read texts and to compute.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/prompt_format.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/tokenizer.hpp>

#include <filesystem>
#include <string_view>

namespace weft::launcher::study {

struct loaded_model {
  engine::runner runner;
  engine::tokenizer tokens;
  engine::prompt_format format;
};

result<loaded_model> load_model(const std::filesystem::path& folder, const engine::runner_options& options);

// "auto": the weights' dtype and the fastest products; "f32", "bf16", "f16": a cache of that dtype, and with
// "f32" exact products.
result<engine::runner_options> options_for_dtype(std::string_view dtype, unsigned threads);

}  // namespace weft::launcher::study
