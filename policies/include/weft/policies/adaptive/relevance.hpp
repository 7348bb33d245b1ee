// How relevant a row is going to be: what is known of it when that is decided, and a small predictor by
// layer.
//
//   r = sigmoid(w [h; a; f] + b), or with 32 hidden units of ReLU between.
//
// h: the hidden state of the row's token, projected when the row is made: only the products are kept. a: the
// attention that the row received, as a moving mean and as a maximum. f: age, the row's norms, the token's
// kind, the KV head, and the relevance of the same token in the layer before.
#pragma once

#include <weft/base/error.hpp>
#include <weft/policies/adaptive/cache_policy.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::policies::adaptive {

// Attention that a row received: its moving mean, and its maximum over the last 25 to 32 query rows, in 255
// steps over the orders of magnitude.
struct attention_trace {
  static constexpr float decay = 0.9F;
  static constexpr std::uint32_t bucket_rows = 8;

  float mean = 0;
  std::uint32_t maxima = 0;  // of four spans of query rows, a byte each

  // `row` counts query rows; one call for each of them.
  void add(float weight, std::uint32_t row);
  float maximum() const;  // from 0 to 1, on a logarithmic scale
};

// What changes from step to step. The rest is constant for a row.
struct changing_features {
  static constexpr std::size_t count = 4;

  float mean_attention = 0;
  float most_attention = 0;  // as `attention_trace::maximum` has it
  std::uint32_t age_tokens = 0;
  float relevance_before = 0;  // of the token in the layer before; 0 in the first one

  void write(float* out) const;
};

// Of many rows at once.
struct changing_rows {
  const attention_trace* traces = nullptr;
  const std::uint32_t* tokens = nullptr;
  std::uint32_t newest_token = 0;  // a row's age is the distance to it
  const float* relevance_before = nullptr;
};

struct constant_features {
  float key_norm = 0;
  float value_norm = 0;
  std::uint8_t kind = 0;
  std::uint32_t kv_head = 0;
  std::span<const float> hidden;
};

// Which features a predictor may use; what is left out is taken away in training.
enum class feature_set : std::uint8_t { all, without_attention, without_facts, without_hidden, age_only };

std::string_view name_of(feature_set set);
result<feature_set> feature_set_from_name(std::string_view name);
std::span<const feature_set> all_feature_sets();

// [changing][norms, kind, KV head][hidden]
struct feature_layout {
  std::uint32_t kv_heads = 0;
  std::uint32_t hidden_size = 0;

  std::size_t constant() const { return 2 + token_kinds + kv_heads + hidden_size; }
  std::size_t count() const { return changing_features::count + constant(); }
  void write(const constant_features& row, float* out) const;  // behind the changing ones
  // Which features a set has, 1 or 0.
  std::vector<std::uint8_t> mask(feature_set set) const;

  friend bool operator==(const feature_layout&, const feature_layout&) = default;
};

struct layer_predictor {
  std::uint32_t units = 0;    // 0: linear
  std::vector<float> input;   // [line][feature]; as many lines as units, at least one
  std::vector<float> bias;    // [line]
  std::vector<float> output;  // [unit]
  float output_bias = 0;

  std::size_t lines() const { return bias.size(); }
};

class relevance_predictor {
 public:
  relevance_predictor() = default;
  relevance_predictor(const feature_layout& layout, std::vector<layer_predictor> layers, float beta);

  const feature_layout& layout() const { return layout_; }
  const std::vector<layer_predictor>& layers() const { return layers_; }
  float beta() const { return beta_; }
  std::size_t lines() const { return layers_.front().lines(); }

  // A token's hidden state for all its rows of a layer: [lines].
  void project_hidden(std::uint32_t layer, std::span<const float> hidden, std::span<float> out) const;
  // Adds the rest of what stays constant. `projected` comes in as `project_hidden` left it.
  void add_constant(std::uint32_t layer, const constant_features& row, std::span<float> projected) const;
  // From what was projected: from 0 to 1.
  float relevance(std::uint32_t layer, std::span<const float> projected, const changing_features& now) const;
  // Of rows [row][lines], into `out`.
  void relevances(std::uint32_t layer, std::span<const float> projected, const changing_rows& now,
                  std::span<float> out) const;

 private:
  feature_layout layout_;
  std::vector<layer_predictor> layers_;
  float beta_ = 1;
};

// Without training: a row is as relevant as the attention that it received.
relevance_predictor attention_predictor(const session_shape& shape);

// What `add` of each row's trace does with its weight, which stands for the last `rows` query rows, where not
// every one was looked at; shares of attention from logits: 1 / (1 + exp(-x)).
void add_to_traces(std::span<const float> weights, std::uint32_t row, std::span<attention_trace> traces,
                   std::uint32_t rows = 1);
void to_shares(std::span<float> logits);

// `invalid_argument` if the predictor was made for another model.
result<void> check(const relevance_predictor& predictor, const session_shape& shape);

struct training_rows {
  std::vector<float> features;       // [row][feature]
  std::vector<std::uint8_t> labels;  // 1: relevant
};

struct training_options {
  std::uint32_t units = 0;  // hidden ones; 0: linear
  std::uint32_t epochs = 40;
  std::uint32_t batch_rows = 256;
  double rate = 0.01;
  std::uint64_t seed = 1;
  feature_set features = feature_set::all;
};

// Weighted binary cross-entropy (both classes weigh the same together), AdamW under a cosine rate.
layer_predictor train_layer(const feature_layout& layout, const training_rows& rows,
                            const training_options& options);

}  // namespace weft::policies::adaptive
