// config.json (and generation_config.json) of a Hugging Face model folder.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/model_spec.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace weft::engine {

using token_id = std::int32_t;

enum class architecture : std::uint8_t { llama, qwen2, qwen3 };

// How a model was taught to repeat a passage (`weft.repeat_prompt`): prefix, some tokens of the passage as a
// hint, suffix.
struct repeat_metadata {
  std::string prefix;  // special tokens are recognised in both
  std::string suffix;
  std::uint32_t hint_tokens = 8;
  bool hint_from_chunk_head = false;  // else from the end of the chunk before
  std::uint32_t chunk_tokens = 2000;  // 0: every document is a chunk
  std::uint32_t skip_tokens = 0;      // leading tokens of a chunk that are not repeated
};

// The `weft` object of config.json: what a model says about itself to weft. Absent for ordinary models.
struct weft_metadata {
  std::vector<std::uint32_t> link_tokens;  // numbers of link rows per document that were trained: of 1 and 5
  bool segment_masked = false;             // trained with documents that see only themselves
  std::map<std::string, token_id> special_tokens;
  std::optional<repeat_metadata> repeat;
};

struct model_config {
  architecture arch = architecture::llama;
  std::uint32_t layers = 0;
  std::uint32_t hidden_size = 0;
  std::uint32_t intermediate_size = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t vocab_size = 0;
  std::uint32_t max_context_tokens = 0;
  double rms_norm_eps = 1e-5;
  block::rope_spec rope;
  bool tied_embeddings = false;
  bool attention_bias = false;                          // q, k, v projections have biases (Qwen2)
  bool qk_norm = false;                                 // RMSNorm on each head of q and k (Qwen3)
  kernels::dtype weights_dtype = kernels::dtype::bf16;  // torch_dtype / dtype
  std::optional<token_id> bos_token;
  std::vector<token_id> eos_tokens;  // generation_config.json wins over config.json
  std::optional<weft_metadata> weft;
};

// `invalid_argument` for a file that is no model config, `unsupported` for an architecture, an activation or
// a RoPE scaling that this engine does not have (named); `not_found` for a folder without config.json.
result<model_config> load_model_config(const std::filesystem::path& model_folder);

}  // namespace weft::engine
