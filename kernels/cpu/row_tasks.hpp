// Rows of a matrix as parallel tasks.
#pragma once

#include <weft/kernels/thread_pool.hpp>

#include <algorithm>
#include <cstddef>

namespace weft::kernels {

// Calls `task(row, worker)` for every row, of which it touches `row_bytes` each: threads take several short
// rows at a time, so that the counter they share costs little beside the work.
template <class Task>
void parallel_for_rows(thread_pool& pool, std::size_t rows, std::size_t row_bytes, Task&& task) {
  constexpr std::size_t bytes_at_a_time = std::size_t{64} << 10;
  const std::size_t each = std::max<std::size_t>(bytes_at_a_time / std::max<std::size_t>(row_bytes, 1), 1);
  pool.parallel_for((rows + each - 1) / each, [&](std::size_t index, unsigned worker) {
    const std::size_t end = std::min(rows, (index + 1) * each);
    for (std::size_t row = index * each; row < end; ++row)
      task(row, worker);
  });
}

}  // namespace weft::kernels
