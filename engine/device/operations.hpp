// A forward pass on a device, alone or as one rank of a group. Before a layer attends, its rows that the
// device has not are uploaded; new rows' keys and values come back, and are written to the host's caches by
// the code that writes those of the CPU's, where the (layer, KV head) is home.
#pragma once

#include <weft/engine/compute_device.hpp>
#include <weft/kernels/rope.hpp>

#include "../fresh_rows.hpp"
#include "../group_sums.hpp"
#include "../layer_attention.hpp"
#include "../model_weights.hpp"
#include "../pass_operations.hpp"
#include "block_stage.hpp"
#include "column_counting.hpp"
#include "device_attention.hpp"
#include "recorded_steps.hpp"
#include "resident_weights.hpp"
#include "staging.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

// Memory is kept from pass to pass.
class device_operations final : public pass_operations {
 public:
  // `out_of_space` if the weights have no room. What is referred to lives longer.
  static result<std::unique_ptr<device_operations>> make(const model_config& config,
                                                         const model_weights& weights, const kv_shape& shape,
                                                         kernels::products allowed,
                                                         std::span<const float> frequencies,
                                                         kernels::thread_pool& pool,
                                                         const runner_options& options);
  ~device_operations() override;
  block_stage* stage() override { return stage_.get(); }

  result<void> prepare(std::span<const row_group> groups, std::uint32_t rows) override;
  result<bool> step(const row_chunk& chunk, std::span<float> logits, bool observed) override;
  result<void> begin(const row_chunk& chunk) override;
  result<void> embed(std::span<const token_id> tokens) override;
  result<void> set_stream(const float* stream, std::span<const std::uint32_t> rows) override;
  result<void> read_stream(std::uint32_t rows, float* out) override;
  void project(std::uint32_t layer, std::uint32_t rows) override;
  result<const float*> show_input(std::uint32_t layer, std::uint32_t rows) override;
  void show_input_there(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer) override;
  void round_keys_and_values(std::uint32_t rows) override;
  result<shown_keys> show_keys(std::uint32_t rows) override;
  void show_keys_there(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer) override;
  result<void> write_cache(std::uint32_t layer, const row_chunk& chunk, bool watched) override;
  result<shown_queries> show_queries(std::uint32_t rows) override;
  result<void> count_columns(std::uint32_t layer, const row_chunk& chunk,
                             forward_observer& observer) override;
  result<void> keep(std::span<const std::uint32_t> rows) override;
  result<void> attend(std::uint32_t layer, const active_rows& active, forward_observer* observer) override;
  result<void> add_attention(std::uint32_t layer, std::uint32_t rows) override;
  result<shown_queries> show_queries_ahead(std::uint32_t layer, std::uint32_t rows, bool roughly) override;
  result<void> add_mlp(std::uint32_t layer, std::uint32_t rows) override;
  result<void> write_logits(std::uint32_t rows, std::span<float> logits) override;
  result<void> finish() override;
  void abandon(std::span<const row_group> groups) override;

 private:
  // New rows of a layer that the device has and the host has not.
  struct away {
    std::uint32_t layer = 0;
    std::vector<slot_run> runs;
  };
  // Lists on the device of what puts a layer's new rows into the mirrors.
  struct row_writes {
    const kernels::cuda::scatter_rows* scatters = nullptr;
    const kernels::cuda::label_item* labels = nullptr;
    std::uint32_t count = 0;
    std::uint32_t most_rows = 0;
  };
  // What the kernels of a layer of a decode step are given.
  struct layer_step {
    std::byte* keys = nullptr;
    row_writes writes;
    kernels::cuda::decode_work attention;
  };

  device_operations(const model_config& config, const model_weights& weights, const kv_shape& shape,
                    kernels::products allowed, std::span<const float> frequencies, kernels::thread_pool& pool,
                    const runner_options& options, std::unique_ptr<device::stream> stream,
                    std::unique_ptr<block_stage> stage, resident_weights resident);

  result<void> reserve(std::uint32_t rows);
  static result<void> bring_home_what_moves(const row_chunk& chunk);
  result<void> wait();
  result<void> download(void* to, const void* from, std::size_t bytes);
  result<shown_queries> shown_of(const float* queries, std::uint32_t rows);
  std::byte* home_of(std::uint32_t layer) const {
    return home_.data() + std::size_t{layer} * 2 * keys_bytes_;
  }

  const float* norm_input(std::uint32_t layer, std::uint32_t rows);
  void norm(const float* weight, std::uint32_t rows, std::byte* out, kernels::dtype type);
  void multiply(const resident_matrix& matrix, std::uint32_t rows, std::uint32_t outputs, float* y,
                std::size_t y_stride, bool add);
  void project_first(std::uint32_t layer, std::uint32_t outputs, std::uint32_t rows, float* to);
  void norm_heads(float* heads, std::uint32_t count, const float* weight, std::uint32_t rows);
  void rotate_queries(float* queries, std::uint32_t rows);
  void multiply_attention(std::uint32_t layer, std::uint32_t rows);
  void multiply_mlp(std::uint32_t layer, std::uint32_t rows);
  result<std::byte*> reserve_logits(std::uint32_t rows);
  void compute_logits(std::uint32_t rows, std::byte* out);
  result<void> bring_logits(const std::byte* there, std::uint32_t rows, std::span<float> logits);
  result<void> sum_stream(std::uint32_t rows);

  static bool has_raw_caches(std::span<const row_group> groups);
  bool takes_step(const row_chunk& chunk) const;
  result<void> list_step(const row_chunk& chunk);
  result<void> run_layers(std::uint32_t rows);
  step_arguments step_arguments_of(std::uint32_t rows, const std::byte* logits) const;

  away& open_rows(std::uint32_t layer, const row_chunk& chunk);
  void update_opened(std::uint32_t layer, std::span<const row_group> groups);
  row_writes list_writes(std::uint32_t layer, std::span<const slot_run> runs);
  void write_there(const row_writes& writes);
  void write_here(std::uint32_t layer, std::span<const slot_run> runs);
  result<void> write_coded(std::uint32_t layer, const row_chunk& chunk, std::span<const slot_run> runs);
  void bring_home();
  void update_mirrors(std::uint32_t layer, std::span<const row_group> groups);
  result<void> attend_there(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  bool counts_there(std::span<const row_group> groups) const;
  result<void> count_there(std::uint32_t layer, std::uint32_t first_row, const row_group& group,
                           forward_observer& observer);
  result<void> attend_here(std::uint32_t layer, const active_rows& active, forward_observer* observer);

  const model_config& config_;
  const model_weights& weights_;
  kv_shape shape_;
  std::span<const float> frequencies_;
  kernels::thread_pool& pool_;
  std::shared_ptr<const compute_device> on_;
  device_kernels& kernels_;
  group_sums group_;
  std::unique_ptr<block_stage> stage_;
  std::unique_ptr<device::stream> stream_;  // goes before those that it comes behind
  resident_weights resident_;
  staging lists_;
  device_attention attention_there_;
  column_counting counting_;
  layer_attention attention_here_;
  fresh_rows fresh_;
  std::uint32_t query_width_ = 0;  // query heads * head_dim
  std::uint32_t key_width_ = 0;    // KV heads * head_dim
  std::uint32_t qkv_width_ = 0;

  std::uint32_t reserved_rows_ = 0;
  device::memory memory_;
  float* x_ = nullptr;                // [rows][hidden], the residual stream
  float* other_x_ = nullptr;          // for rows that move, and what is shown
  float* qkv_ = nullptr;              // [rows][queries, keys, values]
  float* other_qkv_ = nullptr;        // the same
  float* attention_ = nullptr;        // [rows][query_width]
  float* mlp_ = nullptr;              // [rows][gate, up]
  std::byte* input_ = nullptr;        // of the next product, [rows][its inputs]
  std::byte* keys_ = nullptr;         // of the layer: K before RoPE, then V, [rows][kv_head][head_dim] each
  float* rotations_there_ = nullptr;  // [rows][head_dim]
  growing_memory logits_, step_keys_;

  device::memory parts_;        // pinned: of sums over ranks, on their way over the host
  device::memory home_;         // pinned: `keys_` of every layer
  std::size_t keys_bytes_ = 0;  // of K, or V, of the pass's rows
  std::uint32_t layer_ = 0;     // that was projected last
  bool keys_are_home_ = false;  // those of that layer
  std::vector<slot_run> runs_home_;
  std::vector<away> away_;
  std::size_t away_count_ = 0;
  std::vector<bool> in_place_;  // by group and KV head: the device has the rows, and none of them moves
  kernels::rotation_table rotations_;
  const std::int32_t* positions_there_ = nullptr;  // of the chunk's rows
  const std::int32_t* segments_there_ = nullptr;
  std::vector<kernels::cuda::scatter_rows> scatters_;
  std::vector<kernels::cuda::label_item> labels_;
  recorded_steps recorded_;
  std::vector<layer_step> steps_;
  std::vector<float> x_here_, shown_, queries_here_, attention_rows_;
};

}  // namespace weft::engine
