#include <weft/bench/kernels.hpp>
#include <weft/kernels/products.hpp>

#include "kernels_run.hpp"
#include "machine.hpp"

#include <algorithm>
#include <iterator>

namespace weft::bench {

report run_kernels(const kernels_options& options) {
  kernels_run run(options);
  run.result.machine = {cpu_name(), run.pool.threads(), kernels::native_bf16_products()};
  constexpr void (*measures[])(kernels_run&) = {
      measure_memory,          measure_products,  measure_attention, measure_ragged_attention,
      measure_coded_attention, measure_selection, measure_retrieval, measure_layers};
  static_assert(std::size(measures) == std::size(kernel_groups));
  for (std::size_t i = 0; i < std::size(measures); ++i)
    if (options.only.empty() || std::ranges::find(options.only, kernel_groups[i]) != options.only.end())
      measures[i](run);
  return std::move(run.result);
}

}  // namespace weft::bench
