// Attention of a chunk's rows over their caches on the CPU, and what observers add to it.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/attention_counted.hpp>
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/thread_pool.hpp>

#include "pass_operations.hpp"

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

kernels::attention_shape attention_shape_of(const model_config& config, kernels::dtype kv_dtype,
                                            kernels::products allowed);

// Memory is kept from pass to pass: decode steps allocate nothing.
class layer_attention {
 public:
  layer_attention(const kernels::attention_shape& shape, std::uint32_t layers, kernels::thread_pool& pool);

  // The row counts may differ from those of the last pass.
  void begin() { planned_rows_.clear(); }

  // Of the active rows' queries; `out`: [row][query_head][head_dim] without gaps.
  void attend(std::uint32_t layer, const active_rows& active, const shown_queries& queries, float* out,
              forward_observer* observer);
  // The last layer's, of all rows: most of them do not attend.
  void count_columns(std::uint32_t layer, const row_chunk& chunk, const shown_queries& queries,
                     forward_observer& observer);
  // To what a group's rows found in their cache, what they find in `part` and in what the observer has
  // besides. `out` is that of all rows.
  void add_parts(std::uint32_t layer, const row_group& group, const active_rows& active,
                 const shown_queries& queries, std::span<const kernels::prefill_kv_head> part, float* out,
                 forward_observer& observer);

 private:
  void list_decode_runs(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void attend_decode(std::uint32_t layer, const active_rows& active, const shown_queries& queries, float* out,
                     forward_observer* observer);
  void list_prefill_heads(std::uint32_t layer, const row_group& group);
  void attend_prefill(std::uint32_t layer, const active_rows& active, const shown_queries& queries,
                      float* out, forward_observer* observer);
  void add_part(const kernels::prefill_queries& queries, std::span<const kernels::prefill_kv_head> part,
                float* out);

  kernels::attention_shape shape_;
  std::uint32_t layers_;
  std::size_t query_width_;  // query heads * head_dim
  kernels::thread_pool& pool_;

  kernels::workspace scratch_;
  kernels::decode_plan decode_plan_;
  std::vector<std::uint32_t> decode_rows_, planned_rows_;
  std::vector<kernels::kv_run> decode_runs_;
  std::vector<std::size_t> first_runs_;      // by decode head, one more at the end
  std::vector<float> log_sums_, part_sums_;  // by line: row and query head
  std::vector<float> part_;                  // [row][query_width]
  std::vector<kernels::decode_head> decode_heads_;
  std::vector<kernels::prefill_kv_head> prefill_heads_;
  std::vector<kernels::prefill_kv_head> base_heads_;  // [kv_head][base]
};

}  // namespace weft::engine
