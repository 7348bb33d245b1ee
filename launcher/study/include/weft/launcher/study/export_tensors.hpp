// Tensors of a forward pass for comparison with other implementations.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/runner.hpp>
#include <weft/launcher/study/export_request.hpp>

#include <cstdint>
#include <vector>

namespace weft::launcher::study {

// [tokens][vocab]
result<std::vector<float>> logits_of(engine::runner& model, const sequence_request& request);

// K before RoPE (after the key norm, where the model has one) and V: [layer][kv_head][token][head_dim].
struct exported_kv {
  std::vector<float> k, v;
};
result<exported_kv> kv_of(engine::runner& model, const sequence_request& request);

// Logits of the question, [question token][vocab], and which rows were computed when the prompt was put
// together, [layer][prompt token], 1 or 0. Documents that are reused are encoded first, each alone.
struct exported_stitching {
  std::vector<float> logits;
  std::vector<std::uint8_t> computed;
  std::uint32_t prompt_tokens = 0;
};
result<exported_stitching> stitched_of(engine::runner& model, const stitched_request& request);

}  // namespace weft::launcher::study
