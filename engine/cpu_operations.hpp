// A forward pass on the CPU, alone or as one rank of a group.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/rough_linear.hpp>

#include "fresh_rows.hpp"
#include "group_sums.hpp"
#include "layer_attention.hpp"
#include "model_weights.hpp"
#include "pass_operations.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace weft::engine {

// Memory for activations is kept from pass to pass: decode steps allocate nothing.
class cpu_operations final : public pass_operations {
 public:
  cpu_operations(const model_config& config, const model_weights& weights, const kv_shape& shape,
                 kernels::products allowed, std::span<const float> frequencies, kernels::thread_pool& pool,
                 collective::communicator* group);

  result<void> prepare(std::span<const row_group> groups, std::uint32_t rows) override;
  result<void> begin(const row_chunk& chunk) override;
  result<void> embed(std::span<const token_id> tokens) override;
  result<void> set_stream(const float* stream, std::span<const std::uint32_t> rows) override;
  result<void> read_stream(std::uint32_t rows, float* out) override;
  void project(std::uint32_t layer, std::uint32_t rows) override;
  result<const float*> show_input(std::uint32_t, std::uint32_t) override { return normed_; }
  void round_keys_and_values(std::uint32_t rows) override;
  result<shown_keys> show_keys(std::uint32_t) override { return shown_keys{k_, v_}; }
  result<void> write_cache(std::uint32_t layer, const row_chunk& chunk, bool watched) override;
  result<shown_queries> show_queries(std::uint32_t) override { return queries(); }
  result<void> count_columns(std::uint32_t layer, const row_chunk& chunk,
                             forward_observer& observer) override;
  result<void> keep(std::span<const std::uint32_t> rows) override;
  result<void> attend(std::uint32_t layer, const active_rows& active, forward_observer* observer) override;
  result<void> add_attention(std::uint32_t layer, std::uint32_t rows) override;
  result<shown_queries> show_queries_ahead(std::uint32_t layer, std::uint32_t rows, bool roughly) override;
  result<void> add_mlp(std::uint32_t layer, std::uint32_t rows) override;
  result<void> write_logits(std::uint32_t rows, std::span<float> logits) override;
  result<void> finish() override { return {}; }
  void abandon(std::span<const row_group>) override {}

 private:
  void reserve(std::uint32_t rows);
  shown_queries queries() const { return {qkv_, qkv_width_}; }
  void project_first(const layer_weights& layer, std::uint32_t outputs, std::uint32_t rows);
  void estimate_queries(std::uint32_t layer);
  void normalise_heads(float* heads, std::uint32_t count, std::span<const float> weight, std::uint32_t rows);
  void normalise(std::uint32_t rows, std::span<const float> weight);
  result<void> add_product(const kernels::linear& weights, std::uint32_t rows);

  const model_config& config_;
  const model_weights& weights_;
  kv_shape shape_;
  std::span<const float> frequencies_;
  kernels::thread_pool& pool_;
  group_sums group_;
  layer_attention attention_of_layer_;
  fresh_rows fresh_;
  std::uint32_t query_width_ = 0;  // query heads * head_dim
  std::uint32_t key_width_ = 0;    // KV heads * head_dim
  std::uint32_t qkv_width_ = 0;

  std::uint32_t reserved_rows_ = 0;
  kernels::aligned_buffer memory_;
  float* x_ = nullptr;          // [rows][hidden], the residual stream
  float* normed_ = nullptr;     // [rows][hidden]
  float* qkv_ = nullptr;        // [rows][queries, keys, values]
  float* attention_ = nullptr;  // [rows][query_width]
  float* mlp_ = nullptr;        // [rows][gate, up]
  std::byte* k_ = nullptr;      // [rows][kv_head][head_dim] before RoPE, in the cache dtype
  std::byte* v_ = nullptr;

  kernels::linear_input packed_;
  kernels::rotation_table rotations_;
  std::vector<slot_run> runs_;
  std::vector<float> ahead_;  // [rows][queries, keys, values] of the next layer
  std::vector<std::optional<kernels::rough_linear>> rough_queries_;  // by layer, once they were wanted
};

}  // namespace weft::engine
