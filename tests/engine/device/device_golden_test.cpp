// Logits of a device against those of transformers.
#include <weft/engine/safetensors.hpp>

#include "../golden_cases.hpp"
#include "../small_models.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::dtype;

namespace {

// Rows in f32 attend by the CPU's kernel in prompts; those in f16 on tensor cores, which round queries, keys
// and values to 11 bits.
float largest_difference(dtype cache) {
  return cache == dtype::f32 ? 1e-3F : 5e-2F;
}

}  // namespace

TEST_CASE("logits on a device are those of transformers") {
  if (!device_under_test()) return;
  for (const std::string name : {"llama", "llama_tied", "llama_linear", "qwen2", "qwen3", "recall"})
    for (const auto cache : {dtype::f32, dtype::f16}) {
      CAPTURE(name);
      CAPTURE(name_of(cache));
      auto model = runner::load(golden_model_folder(name), options_on(device_under_test(), cache));
      REQUIRE_MESSAGE(model.has_value(), model.error().context);
      check_golden_logits(*model, name, largest_difference(cache));
    }
}
