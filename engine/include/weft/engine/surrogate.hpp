// KVzap (arXiv 2601.07891): a small matrix or network per layer that guesses ln(kvzip_plus) of a token's rows
// from the hidden state that enters the layer's attention (behind its RMSNorm), one number per KV head.
//
// Stored beside the model as kvzap_linear.safetensors or kvzap_mlp.safetensors, f32: `layers.N.weight`
// [kv_heads, inputs] and `layers.N.bias`; of an mlp also `layers.N.hidden.weight` [hidden, inputs] and
// `.bias`, with GELU behind them. `weights_digest` [16] holds, as bytes, the digest of the weights it was
// trained for: it is refused for others.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/runner.hpp>
#include <weft/kernels/linear.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace weft::engine {

enum class surrogate_kind : std::uint8_t { linear, mlp };

std::string_view name_of(surrogate_kind kind);
std::optional<surrogate_kind> surrogate_kind_from_name(std::string_view name);

// Where a model's surrogate is looked for.
std::filesystem::path surrogate_file(const std::filesystem::path& model_folder, surrogate_kind kind);

// All row-major. Linear: without hidden part, and `inputs` of `weights` is the hidden size.
struct surrogate_layer {
  std::vector<float> hidden_weights;  // [hidden][hidden_size]
  std::vector<float> hidden_bias;     // [hidden]
  std::vector<float> weights;         // [kv_heads][inputs]
  std::vector<float> bias;            // [kv_heads]
};

// As they are multiplied with; without a hidden part it has no outputs.
struct surrogate_matrices {
  kernels::linear hidden, output;
};

class resident_surrogate;

class surrogate {
 public:
  // One layer for each of the model's, of one kind; wrong shapes are `invalid_argument`.
  static result<surrogate> make(const std::vector<surrogate_layer>& layers, runner& model);

  // `not_found` with what trains one, `invalid_argument` if it was trained for other weights.
  static result<surrogate> load(const std::filesystem::path& file, runner& model);

  // hidden: f32 [rows][hidden_size]; out: [rows][kv_heads]. One call at a time, on the model's threads.
  void guess(std::uint32_t layer, const float* hidden, std::uint32_t rows, std::span<float> out);

  // Where a model computes on a device, this surrogate there; null where there is none, or no room, until the
  // next call asks again.
  const resident_surrogate* there();

 private:
  explicit surrogate(runner& model) : model_(&model) {}

  runner* model_;
  bool has_hidden_ = false;
  std::vector<surrogate_matrices> layers_;
  kernels::linear_input packed_;
  std::vector<float> between_;
  std::shared_ptr<const resident_surrogate> there_;
};

result<void> write_surrogate(const std::filesystem::path& file, const std::vector<surrogate_layer>& layers,
                             const runner& model);

// x := x Phi(x), with the normal distribution's Phi, to 1e-6 relative to |x|.
void gelu(std::span<float> x);

}  // namespace weft::engine
