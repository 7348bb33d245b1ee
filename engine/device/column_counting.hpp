// How much attention rows of a cache get from a chunk's queries (weft/kernels/attention_counted.hpp), over
// the cache's mirror: two passes of kernels, sums of lines and then columns, behind the layer's attention.
#pragma once

#include <weft/kernels/attention_counted.hpp>
#include <weft/kernels/cuda/attention_plan.hpp>

#include "../row_groups.hpp"
#include "device_kernels.hpp"
#include "staging.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace weft::engine {

// Memory is kept from pass to pass. Caches are raw and have mirrors on this device, with the layer's rows.
class column_counting {
 public:
  column_counting(const kernels::attention_shape& shape, std::shared_ptr<device::device> owner,
                  device_kernels& kernels, device::stream& stream, staging& lists);

  // The stream was waited for. What was counted and not brought home is forgotten.
  void begin();

  // For the group's rows of `queries`, whose pointers are the device's. Of `count`, `found` alone has to
  // live until `bring_home`.
  result<void> count(std::uint32_t layer, const kv_cache& cache, const kernels::prefill_queries& queries,
                     const kernels::column_count& count);

  // The stream was waited for: joins what was found to what the caller has.
  void bring_home();

 private:
  // Columns of one layer on their way.
  struct found_columns {
    const float* here = nullptr;  // [query_head][columns of both ranges]
    std::array<kernels::row_range, 2> counted;
    kernels::column_statistic statistic = kernels::column_statistic::largest_log;
    float* out = nullptr;
    std::size_t stride = 0;
  };

  result<const float*> sum_lines(std::uint32_t layer, const kv_cache& cache,
                                 const kernels::prefill_queries& queries, const kernels::column_count& count);
  void plan_lines(const std::vector<std::uint32_t>& run_rows, std::uint32_t lines);
  result<void> find_columns(std::uint32_t layer, const kv_cache& cache,
                            const kernels::prefill_queries& queries, const kernels::column_count& count,
                            const float* log_sums);
  result<float*> pinned(std::size_t floats);

  kernels::attention_shape shape_;
  std::shared_ptr<device::device> owner_;
  device_kernels& kernels_;
  device::stream& stream_;
  staging& lists_;

  growing_memory scratch_, sums_, columns_;
  kernels::cuda::attention_plan plan_;
  kernels::cuda::prefill_work sums_work_;
  std::vector<std::uint32_t> planned_runs_;
  std::uint32_t planned_lines_ = 0;
  std::vector<kernels::cuda::prefill_run> runs_;
  std::vector<kernels::cuda::prefill_head> heads_;

  std::vector<device::memory> pinned_;  // the last one is filled, the others are full
  std::size_t pinned_floats_ = 0;       // of the last one
  std::vector<found_columns> found_;
};

}  // namespace weft::engine
