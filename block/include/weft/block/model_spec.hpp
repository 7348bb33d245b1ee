// What decides the bytes of a KV block: two models with the same fingerprint produce interchangeable blocks.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstdint>
#include <string>

namespace weft::block {

// Rotary embedding whose frequencies do not depend on the current length.
struct rope_spec {
  enum class scaling_kind : std::uint8_t { none = 0, llama3 = 1, linear = 2 };

  double theta = 10000.0;
  scaling_kind scaling = scaling_kind::none;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  std::uint32_t original_context_tokens = 8192;

  friend bool operator==(const rope_spec&, const rope_spec&) = default;
};

struct model_spec {
  std::string architecture;  // "llama", "qwen2", "qwen3"
  std::uint32_t layers = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  kernels::dtype cache_dtype = kernels::dtype::bf16;  // what K and V rows are rounded to
  rope_spec rope;
  id128 weights_digest;  // of names, shapes and bytes of all weights

  friend bool operator==(const model_spec&, const model_spec&) = default;
};

// First 128 bits of SHA-256 over a canonical little-endian serialisation (docs/keys.md). Equal in every
// process.
id128 fingerprint(const model_spec& spec);

}  // namespace weft::block
