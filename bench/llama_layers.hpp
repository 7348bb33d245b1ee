// The kernels of a transformer in the order that a forward pass runs them, at the shapes of Llama-3.2-1B with
// random weights.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/linear.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/rotate_scatter.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace weft::bench {

class llama_layers {
 public:
  static constexpr std::uint32_t hidden = 2048;
  static constexpr std::uint32_t intermediate = 8192;
  static constexpr std::uint32_t head_dim = 64;
  static constexpr std::uint32_t query_heads = 32;
  static constexpr std::uint32_t kv_heads = 8;
  static constexpr std::uint32_t vocabulary = 128256;

  // With `cache_rows` rows of room in every head of every layer.
  llama_layers(std::uint32_t layers, std::uint32_t cache_rows, kernels::thread_pool& pool);

  // Rows at positions 0 .. rows - 1 through all layers, without the vocabulary.
  void prefill(std::uint32_t rows);
  // The same, nothing but products with weights.
  void prefill_products(std::uint32_t rows);
  // One row behind `depth` rows of the cache, through all layers and the vocabulary.
  void decode(std::uint32_t depth);

  std::size_t weight_bytes() const;
  std::size_t cache_row_bytes() const;  // of all layers and heads, K and V

 private:
  struct layer {
    kernels::linear qkv, o, gate_up, down;
    std::vector<kernels::aligned_buffer> k, v;  // by head
  };

  void resize(std::uint32_t rows);
  void multiply(const kernels::linear& weights, const std::vector<float>& x, std::uint32_t rows,
                std::vector<float>& y, kernels::write_mode mode);
  void attend_prefill(layer& l, std::uint32_t first_row, std::uint32_t rows);
  void attend_decode(layer& l, std::uint32_t depth);
  void write_cache(layer& l, std::uint32_t first_row, std::uint32_t rows);
  void run_layer(layer& l, std::uint32_t first_row, std::uint32_t rows);
  kernels::attention_shape attention() const;

  kernels::thread_pool& pool_;
  std::vector<layer> layers_;
  kernels::linear vocabulary_;
  kernels::linear_input input_;
  kernels::rotation_table rotations_;
  kernels::workspace scratch_;
  kernels::decode_plan plan_;
  std::vector<float> frequencies_, norm_, state_, normed_, qkv_, mixed_, gate_up_, gated_, logits_;
  std::vector<std::byte> narrow_;
  std::vector<std::int32_t> positions_, segments_;
};

}  // namespace weft::bench
