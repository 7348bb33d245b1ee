#include "llama_shape.hpp"

#include "llama_layers.hpp"

namespace weft::bench {

engine::model_config llama_3_2_1b() {
  engine::model_config config;
  config.layers = llama_3_2_1b_layers;
  config.hidden_size = llama_layers::hidden;
  config.intermediate_size = llama_layers::intermediate;
  config.query_heads = llama_layers::query_heads;
  config.kv_heads = llama_layers::kv_heads;
  config.head_dim = llama_layers::head_dim;
  config.vocab_size = llama_layers::vocabulary;
  config.max_context_tokens = 131072;
  config.rope = {.theta = 500000.0,
                 .scaling = block::rope_spec::scaling_kind::llama3,
                 .factor = 32,
                 .low_freq_factor = 1,
                 .high_freq_factor = 4,
                 .original_context_tokens = 8192};
  config.tied_embeddings = true;
  return config;
}

}  // namespace weft::bench
