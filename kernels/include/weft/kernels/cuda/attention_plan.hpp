// How attention of many query rows is spread over a GPU: 64 lines (a query row of one query head) and some
// rows of a KV head per thread block. Made on the CPU; needs no CUDA itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::kernels::cuda {

inline constexpr std::uint32_t tile_lines = 64;

// Rows of one run of a KV head, for lines [first_line, first_line + tile_lines) of that head.
struct attention_task {
  std::uint32_t head = 0;
  std::uint32_t run = 0;
  std::uint32_t first_line = 0;
  std::uint32_t first_row = 0;
  std::uint32_t rows = 0;
};

// Lines whose results are put together: tasks [first_task, first_task + tasks).
struct attention_merge {
  std::uint32_t head = 0;
  std::uint32_t first_line = 0;
  std::uint32_t first_task = 0;
  std::uint32_t tasks = 0;
};

// Depends on counts only: one plan serves every layer whose counts are the same.
class attention_plan {
 public:
  // runs[i]: the rows of each run of KV head i. `lines`: query rows times query heads per KV head. `blocks`:
  // how many thread blocks the device runs at once, to make at least as many tasks as that where there are
  // rows enough. Allocates only when it grows.
  void assign(std::span<const std::vector<std::uint32_t>> runs, std::uint32_t lines, std::uint32_t blocks);

  std::span<const attention_task> tasks() const { return tasks_; }
  std::span<const attention_merge> merges() const { return merges_; }
  // Of device memory for the tasks' results, of attention or (value_channels 0) of sums alone.
  std::size_t scratch_bytes(std::uint32_t value_channels) const {
    return tasks_.size() * tile_lines * (std::size_t{value_channels} + 2) * sizeof(float);
  }

 private:
  std::vector<attention_task> tasks_;
  std::vector<attention_merge> merges_;
};

}  // namespace weft::kernels::cuda
