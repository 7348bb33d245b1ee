// One pass of a chunk of rows through all layers.
#pragma once

#include <weft/engine/runner.hpp>
#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/rotate_scatter.hpp>
#include <weft/kernels/rough_linear.hpp>

#include "group_sums.hpp"
#include "model_weights.hpp"
#include "row_groups.hpp"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace weft::engine {

// What a pass computes: consecutive rows of a batch. Lists are by row; `wanted` counts from the first row.
struct row_chunk {
  std::span<const token_id> tokens;
  std::span<const std::int32_t> positions;
  std::span<const std::int32_t> segments;
  std::span<const row_group> groups;  // of these rows
  std::span<const std::uint32_t> wanted;
  std::uint32_t first_row = 0;  // in the batch
  bool decode_step = false;
};

// Memory for activations is kept from pass to pass: decode steps allocate nothing.
class forward_pass {
 public:
  forward_pass(const model_config& config, const model_weights& weights, const kv_shape& shape,
               kernels::products allowed, std::span<const float> frequencies, kernels::thread_pool& pool,
               collective::communicator* group);

  // Adds the rows to their caches, which have room, and writes the logits of the wanted ones. What fails is
  // the group, if there is one.
  result<void> run(const row_chunk& chunk, std::span<float> logits, forward_observer* observer);

  const kernels::attention_shape& attention() const { return attention_shape_; }

  // The layers before `layer`, and that layer's keys and values. `stream` gets what goes into the layer,
  // [rows][hidden], `changes` by row how far the new values are from those that the cache had: the sum of
  // squares.
  result<void> run_until(const row_chunk& chunk, std::uint32_t layer, float* stream,
                         std::span<float> changes);

  // From `layer` on, for rows numbered `stream_rows` of what `run_until` gave for all of them.
  result<void> run_from(const row_chunk& chunk, std::uint32_t layer, const float* stream,
                        std::span<const std::uint32_t> stream_rows, std::span<float> logits);

 private:
  // The rows that go on: all of a chunk, or, behind the last layer's keys and values, the wanted ones only.
  struct active_rows {
    std::uint32_t rows = 0;
    std::span<const std::int32_t> positions;
    std::span<const std::int32_t> segments;
    std::span<const row_group> groups;
    bool decode_step = false;
    std::uint32_t first_row = 0;  // in the batch, where all rows of a chunk go on
  };

  void begin(const row_chunk& chunk);
  void reserve(std::uint32_t rows);
  void embed(const row_chunk& chunk);
  result<void> run_layers(const row_chunk& chunk, std::uint32_t first_layer, std::span<float> logits,
                          forward_observer* observer);
  void measure_changes(std::uint32_t layer, const row_chunk& chunk, std::span<float> changes);
  void project(const layer_weights& layer, std::uint32_t rows);
  void project_first(const layer_weights& layer, std::uint32_t outputs, std::uint32_t rows);
  void round_keys_and_values(std::uint32_t rows);
  void write_cache(std::uint32_t layer, const row_chunk& chunk);
  active_rows keep_wanted(const row_chunk& chunk);
  void look_ahead(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer);
  void estimate_queries(std::uint32_t layer);
  void normalise_queries(const layer_weights& layer, std::uint32_t rows);
  void attend(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void list_decode_runs(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void attend_decode(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void list_prefill_heads(std::uint32_t layer, const row_group& group);
  kernels::prefill_queries queries_of(const row_group& group, std::span<const std::int32_t> positions,
                                      std::span<const std::int32_t> segments) const;
  void count_columns(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer);
  void attend_prefill(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void add_parts(std::uint32_t layer, const row_group& group, const kernels::prefill_queries& queries,
                 forward_observer& observer);
  result<void> add_attention(const layer_weights& layer, std::uint32_t rows);
  result<void> add_mlp(const layer_weights& layer, std::uint32_t rows);
  result<void> add_product(const kernels::linear& weights, std::uint32_t rows);
  void normalise(std::uint32_t rows, std::span<const float> weight);

  const model_config& config_;
  const model_weights& weights_;
  kv_shape shape_;
  std::span<const float> frequencies_;
  kernels::thread_pool& pool_;
  kernels::attention_shape attention_shape_;
  group_sums group_;
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
  std::vector<std::uint16_t> row_numbers_;  // 0, 1, 2, ...
  std::vector<std::uint32_t> slots_;
  std::vector<kernels::scatter_rows> scatters_;

  kernels::linear_input packed_;
  kernels::rotation_table rotations_;
  kernels::workspace scratch_;
  kernels::decode_plan decode_plan_;
  std::vector<std::uint32_t> decode_rows_, planned_rows_;
  std::vector<kernels::kv_run> decode_runs_;
  std::vector<std::size_t> first_runs_;      // by decode head, one more at the end
  std::vector<float> log_sums_, part_sums_;  // by line: row and query head
  std::vector<float> part_;                  // [row][query_width]
  std::vector<float> ahead_;                 // [rows][queries, keys, values] of the next layer
  std::vector<std::optional<kernels::rough_linear>> rough_queries_;  // by layer, once they were wanted
  std::vector<kernels::decode_head> decode_heads_;
  std::vector<kernels::prefill_kv_head> prefill_heads_;
  std::vector<kernels::prefill_kv_head> base_heads_;  // [kv_head][base]

  std::vector<std::int32_t> wanted_positions_, wanted_segments_;
  std::vector<row_group> wanted_groups_;
};

}  // namespace weft::engine
