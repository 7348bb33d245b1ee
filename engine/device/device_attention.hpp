// Attention of a chunk's rows over the mirrors of their caches: lists and plans of the kernels.
#pragma once

#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/attention_plan.hpp>
#include <weft/kernels/cuda/decode_plan.hpp>

#include "../pass_operations.hpp"
#include "device_kernels.hpp"
#include "staging.hpp"

#include <cstdint>
#include <memory>
#include <vector>

namespace weft::engine {

// Where the active rows' queries and results lie on the device.
struct device_rows {
  const float* q = nullptr;  // [row][query_head][head_dim]
  std::size_t q_stride = 0;  // floats
  float* out = nullptr;      // [row][query_head][head_dim] without gaps
};

// How long a plan's lists are on the device: as they are, or rounded up, with pieces behind the plan's that
// have no rows, so that lists of steps one after the other are mostly equally long.
enum class plan_sizes : bool { exact, in_steps };

// Memory is kept from pass to pass. The caches and what lies behind them have mirrors on this device, with
// the layer's rows.
class device_attention {
 public:
  device_attention(const kernels::attention_shape& shape, std::shared_ptr<device::device> owner,
                   device_kernels& kernels, device::stream& stream, staging& lists);

  // Whether the kernels take the shape: the CPU's do where they do not.
  bool takes_decode() const;
  bool takes_prefill() const;
  // Whether they take all that attends to such rows.
  bool takes_all() const { return takes_decode() && takes_prefill(); }

  // The stream was waited for.
  void begin();

  // One row of each group, and what the observer adds.
  result<void> decode(std::uint32_t layer, const active_rows& active, const device_rows& rows,
                      forward_observer* observer);
  // The same in two parts: what `lists` has to be flushed for, and the kernels. The arguments of the latter
  // are all in the work.
  result<kernels::cuda::decode_work> list_decode(std::uint32_t layer, const active_rows& active,
                                                 const device_rows& rows, forward_observer* observer,
                                                 plan_sizes sizes);
  void run_decode(const kernels::cuda::decode_work& work) {
    kernels_.attention_decode(shape_, work, stream_);
  }

  // The rows of one group.
  result<void> prefill(std::uint32_t layer, const active_rows& active, const row_group& group,
                       const device_rows& rows);

 private:
  void list_decode_runs(std::uint32_t layer, const active_rows& active, forward_observer* observer);
  void add_run(const kv_cache& cache, std::uint32_t layer, std::uint32_t head);
  void plan_decode(plan_sizes sizes);
  void plan_prefill(std::uint32_t lines);

  kernels::attention_shape shape_;
  std::shared_ptr<device::device> owner_;
  device_kernels& kernels_;
  device::stream& stream_;
  staging& lists_;
  growing_memory scratch_;

  std::vector<std::uint32_t> decode_rows_, planned_rows_;  // by decode head
  std::vector<kernels::cuda::kv_run> decode_runs_;
  std::vector<std::size_t> first_runs_;  // by decode head, one more at the end
  std::vector<kernels::cuda::decode_head> decode_heads_;
  kernels::cuda::decode_plan decode_plan_;
  std::vector<kernels::cuda::decode_piece> pieces_in_steps_;
  kernels::cuda::decode_work decode_work_;  // its plan's lists, on the device in this pass

  std::vector<std::vector<std::uint32_t>> run_rows_, planned_runs_;  // [kv_head][run]
  std::uint32_t planned_lines_ = 0;
  std::vector<kernels::cuda::prefill_run> prefill_runs_;
  std::vector<kernels::cuda::prefill_head> prefill_heads_;
  kernels::cuda::attention_plan prefill_plan_;
  kernels::cuda::prefill_work prefill_work_;
};

}  // namespace weft::engine
