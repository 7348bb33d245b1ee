#include <weft/policies/adaptive/relevance.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <stdexcept>
#include <string>
#include <utility>

namespace weft::policies::adaptive {

namespace {

constexpr std::array<std::pair<std::string_view, feature_set>, 5> named_sets{
    {{"all", feature_set::all},
     {"without_attention", feature_set::without_attention},
     {"without_facts", feature_set::without_facts},
     {"without_hidden", feature_set::without_hidden},
     {"age_only", feature_set::age_only}}};
constexpr std::array<feature_set, 5> every_set{feature_set::all, feature_set::without_attention,
                                               feature_set::without_facts, feature_set::without_hidden,
                                               feature_set::age_only};

// Approximations without branches, for loops that are to become vector instructions (P. Mineiro's): the
// logarithm is off by 1e-4, the exponential by as much of itself.
inline float log2_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const float m = std::bit_cast<float>((bits & 0x007FFFFFU) | 0x3F000000U);
  return static_cast<float>(static_cast<std::int32_t>(bits)) * 1.1920928955078125e-7F - 124.22551499F -
         1.498030302F * m - 1.72587999F / (0.3520887068F + m);
}

inline float exp2_of(float x) {
  const float low = x < 126.0F ? x : 126.0F;
  const float p = low > -126.0F ? low : -126.0F;
  const float z = p - static_cast<float>(static_cast<std::int32_t>(p)) + (p < 0 ? 1.0F : 0.0F);
  return std::bit_cast<float>(static_cast<std::int32_t>(
      8388608.0F * (p + 121.2740575F + 27.7280233F / (4.84252568F - z) - 1.49012907F * z)));
}

// From 0 (nothing) to 1 (everything), spread over the orders of magnitude.
inline float on_log_scale(float weight) {
  constexpr float floor = 1e-5F;
  constexpr float log2_floor = -16.60964F;
  return 1.0F - log2_of((weight > 0 ? weight : 0.0F) + floor) / log2_floor;
}

inline std::int32_t step_of(float weight) {
  const float steps = 255.0F * on_log_scale(weight) + 0.5F;
  const float bounded = steps < 255.0F ? steps : 255.0F;
  return static_cast<std::int32_t>(bounded > 0 ? bounded : 0.0F);
}

inline float log_age(std::uint32_t age_tokens) {
  return log2_of(1.0F + static_cast<float>(static_cast<std::int32_t>(age_tokens))) * 0.069314718F;
}

// What is no number counts as nothing.
inline float sigmoid(float x) {
  return 1.0F / (1.0F + exp2_of(-1.442695F * x));
}

// In 32 bits throughout, as vector instructions want it.
inline std::int32_t byte_of(std::uint32_t bytes, std::uint32_t shift) {
  return static_cast<std::int32_t>(bytes >> shift & 255U);
}

inline std::int32_t larger(std::int32_t a, std::int32_t b) {
  return a > b ? a : b;
}

inline std::int32_t largest_of(std::uint32_t maxima) {
  return larger(larger(byte_of(maxima, 0), byte_of(maxima, 8)),
                larger(byte_of(maxima, 16), byte_of(maxima, 24)));
}

// Some traces at a time, their means and maxima apart.
constexpr std::size_t block_rows = 64;

struct trace_block {
  std::uint32_t words[2 * block_rows];

  explicit trace_block(std::span<const attention_trace> traces) {
    static_assert(sizeof(attention_trace) == 2 * sizeof(words[0]));
    std::memcpy(words, traces.data(), traces.size_bytes());
  }
  float mean(std::size_t row) const { return std::bit_cast<float>(words[2 * row]); }
  std::uint32_t maxima(std::size_t row) const { return words[2 * row + 1]; }
};

// The same loops for wider vectors, chosen as the program starts; sanitizers are not ready by then. No form
// contracts a product into its sum: all give the same numbers.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define WEFT_WIDE_LOOP [[gnu::target_clones("default", "avx2")]]
#else
#define WEFT_WIDE_LOOP
#endif

WEFT_WIDE_LOOP void add_weights(std::span<const float> weights, std::span<attention_trace> traces,
                                float decay, std::uint32_t kept, std::uint32_t shift) {
  for (std::size_t first = 0; first < weights.size(); first += block_rows) {
    const std::size_t rows = std::min(block_rows, weights.size() - first);
    const float* const own = weights.data() + first;
    trace_block block(traces.subspan(first, rows));
    for (std::size_t i = 0; i < rows; ++i) {
      const std::uint32_t maxima = block.maxima(i) & kept;
      const std::int32_t before = byte_of(maxima, shift);
      const std::int32_t more = larger(step_of(own[i]) - before, 0);
      block.words[2 * i] = std::bit_cast<std::uint32_t>(decay * block.mean(i) + (1 - decay) * own[i]);
      block.words[2 * i + 1] = maxima + (static_cast<std::uint32_t>(more) << shift);
    }
    std::memcpy(traces.data() + first, block.words, rows * sizeof(attention_trace));
  }
}

struct changing_weights {
  float mean, most, age, before;
};

WEFT_WIDE_LOOP void linear_relevances(const float* projected, float bias, changing_weights weights,
                                      const changing_rows& now, std::span<float> out) {
  for (std::size_t first = 0; first < out.size(); first += block_rows) {
    const std::size_t rows = std::min(block_rows, out.size() - first);
    const trace_block block({now.traces + first, rows});
    const std::uint32_t* const tokens = now.tokens + first;
    const float* const before = now.relevance_before + first;
    const float* const constant = projected + first;
    float sums[block_rows];
    for (std::size_t i = 0; i < rows; ++i)
      sums[i] = sigmoid(constant[i] + bias + weights.mean * on_log_scale(block.mean(i)) +
                        weights.most * static_cast<float>(largest_of(block.maxima(i))) +
                        weights.age * log_age(now.newest_token - tokens[i]) + weights.before * before[i]);
    std::copy_n(sums, rows, out.data() + first);
  }
}

WEFT_WIDE_LOOP void sigmoids(std::span<float> values) {
  for (float& value : values)
    value = sigmoid(value);
}

}  // namespace

std::string_view name_of(feature_set set) {
  for (const auto& [name, value] : named_sets)
    if (value == set) return name;
  return "unknown";
}

result<feature_set> feature_set_from_name(std::string_view name) {
  for (const auto& [candidate, value] : named_sets)
    if (candidate == name) return value;
  return fail(errc::unsupported,
              "no feature set `" + std::string{name} +
                  "`; all, without_attention, without_facts, without_hidden, age_only are");
}

std::span<const feature_set> all_feature_sets() {
  return every_set;
}

void attention_trace::add(float weight, std::uint32_t row) {
  add_to_traces({&weight, 1}, row, {this, 1});
}

float attention_trace::maximum() const {
  return static_cast<float>(largest_of(maxima)) / 255.0F;
}

void add_to_traces(std::span<const float> weights, std::uint32_t row, std::span<attention_trace> traces,
                   std::uint32_t rows) {
  const std::uint32_t bucket = row / attention_trace::bucket_rows % 4;
  // The buckets that these rows begin.
  std::uint32_t kept = ~0U;
  const std::uint32_t first = row + 1 - std::min({rows, row + 1, 4 * attention_trace::bucket_rows});
  for (std::uint32_t begun = first; begun <= row; ++begun)
    if (begun % attention_trace::bucket_rows == 0)
      kept &= ~(255U << 8 * (begun / attention_trace::bucket_rows % 4));
  const float decay =
      rows == 1 ? attention_trace::decay : std::pow(attention_trace::decay, static_cast<float>(rows));
  add_weights(weights, traces, decay, kept, 8 * bucket);
}

void to_shares(std::span<float> logits) {
  sigmoids(logits);
}

void changing_features::write(float* out) const {
  out[0] = on_log_scale(mean_attention);
  out[1] = most_attention;
  out[2] = log_age(age_tokens);
  out[3] = relevance_before;
}

void feature_layout::write(const constant_features& row, float* out) const {
  *out++ = row.key_norm;
  *out++ = row.value_norm;
  std::fill_n(out, token_kinds + kv_heads, 0.0F);
  if (row.kind < token_kinds) out[row.kind] = 1;
  out[token_kinds + row.kv_head] = 1;
  std::ranges::copy(row.hidden, out + token_kinds + kv_heads);
}

std::vector<std::uint8_t> feature_layout::mask(feature_set set) const {
  std::vector<std::uint8_t> used(count(), set == feature_set::age_only ? 0 : 1);
  const auto hidden = used.end() - static_cast<std::ptrdiff_t>(hidden_size);
  switch (set) {
    case feature_set::all:
      break;
    case feature_set::without_attention:
      used[0] = used[1] = 0;
      break;
    case feature_set::without_facts:
      std::fill(used.begin() + 2, hidden, std::uint8_t{0});
      break;
    case feature_set::without_hidden:
      std::fill(hidden, used.end(), std::uint8_t{0});
      break;
    case feature_set::age_only:
      used[2] = 1;
      break;
  }
  return used;
}

relevance_predictor::relevance_predictor(const feature_layout& layout, std::vector<layer_predictor> layers,
                                         float beta)
    : layout_(layout), layers_(std::move(layers)), beta_(beta) {
  for (const auto& layer : layers_)
    if (layer.lines() == 0 || layer.lines() != std::max(1U, layer.units) ||
        layer.output.size() != layer.units || layer.units != layers_.front().units ||
        layer.input.size() != layer.lines() * layout.count())
      throw std::invalid_argument("a relevance predictor's layers do not fit its features");
}

void relevance_predictor::project_hidden(std::uint32_t layer, std::span<const float> hidden,
                                         std::span<float> out) const {
  const auto& own = layers_[layer];
  const std::size_t features = layout_.count();
  for (std::size_t line = 0; line < own.lines(); ++line) {
    const float* const weights = own.input.data() + (line + 1) * features - layout_.hidden_size;
    float sum = own.bias[line];
    for (std::size_t i = 0; i < hidden.size(); ++i)
      sum += weights[i] * hidden[i];
    out[line] = sum;
  }
}

void relevance_predictor::add_constant(std::uint32_t layer, const constant_features& row,
                                       std::span<float> projected) const {
  const auto& own = layers_[layer];
  const std::size_t features = layout_.count();
  for (std::size_t line = 0; line < own.lines(); ++line) {
    const float* const weights = own.input.data() + line * features + changing_features::count;
    projected[line] += weights[0] * row.key_norm + weights[1] * row.value_norm;
    if (row.kind < token_kinds) projected[line] += weights[2 + row.kind];
    projected[line] += weights[2 + token_kinds + row.kv_head];
  }
}

float relevance_predictor::relevance(std::uint32_t layer, std::span<const float> projected,
                                     const changing_features& now) const {
  const auto& own = layers_[layer];
  float changing[changing_features::count];
  now.write(changing);
  const std::size_t features = layout_.count();
  float result = own.output_bias;
  for (std::size_t line = 0; line < own.lines(); ++line) {
    const float* const weights = own.input.data() + line * features;
    float sum = projected[line];
    for (std::size_t i = 0; i < changing_features::count; ++i)
      sum += weights[i] * changing[i];
    result += own.units == 0 ? sum : own.output[line] * std::max(sum, 0.0F);
  }
  return sigmoid(result);
}

void relevance_predictor::relevances(std::uint32_t layer, std::span<const float> projected,
                                     const changing_rows& now, std::span<float> out) const {
  const auto& own = layers_[layer];
  if (own.units > 0) {
    const std::size_t lines = own.lines();
    for (std::size_t i = 0; i < out.size(); ++i)
      out[i] = relevance(layer, projected.subspan(i * lines, lines),
                         {.mean_attention = now.traces[i].mean,
                          .most_attention = now.traces[i].maximum(),
                          .age_tokens = now.newest_token - now.tokens[i],
                          .relevance_before = now.relevance_before[i]});
    return;
  }
  const float* const weights = own.input.data();
  linear_relevances(projected.data(), own.output_bias,
                    {weights[0], weights[1] / 255.0F, weights[2], weights[3]}, now, out);
}

relevance_predictor attention_predictor(const session_shape& shape) {
  const feature_layout layout{shape.kv_heads, shape.hidden_size};
  layer_predictor layer;
  layer.input.assign(layout.count(), 0.0F);
  layer.input[0] = 10;
  layer.bias = {-5};
  return {layout, std::vector<layer_predictor>(shape.layers, layer), 1.0F};
}

result<void> check(const relevance_predictor& predictor, const session_shape& shape) {
  const feature_layout wanted{shape.kv_heads, shape.hidden_size};
  if (predictor.layers().size() != shape.layers || !(predictor.layout() == wanted))
    return fail(errc::invalid_argument, "the predictor was trained for " +
                                            std::to_string(predictor.layers().size()) +
                                            " layers of another model; train one for this model");
  return {};
}

}  // namespace weft::policies::adaptive
