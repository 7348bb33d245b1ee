// Work as parallel tasks that are worth another thread.
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

// As the pool's `parallel_for` where there is more than `enough` of `work`, in whatever it is counted; else
// the calling thread does all of it before another one would have begun.
template <class Task>
void parallel_for_enough(thread_pool& pool, std::size_t count, std::size_t work, std::size_t enough,
                         Task&& task) {
  if (work > enough) return pool.parallel_for(count, task);
  for (std::size_t index = 0; index < count; ++index)
    task(index, 0);
}

}  // namespace weft::kernels
