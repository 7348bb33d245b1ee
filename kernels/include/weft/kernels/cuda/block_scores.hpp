// block_scores.hpp of this folder's parent, on a GPU: what sparse decoding ranks blocks by. Vectors lie as
// `score_tiles` has them. Products are made in f32, of queries that are not rounded.
#pragma once

#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/cuda/score_plan.hpp>
#include <weft/kernels/dtype.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// A score_tiles' bytes in device memory.
struct score_vectors {
  const std::byte* tiles = nullptr;
  dtype type = dtype::bf16;
  std::uint32_t vectors = 0;
  std::uint32_t channels = 0;
};

// Queries against the vectors of consecutive blocks; all pointers are the device's.
struct softmax_blocks {
  score_vectors keys;
  std::uint32_t block_vectors = 1;
  const float* queries = nullptr;  // [line][channel], times log2(e) and the scale of the scores
  std::uint32_t lines = 0;
  float* sums = nullptr;            // [line][block]: exponentials of the block's vectors, over 2^maximum
  softmax_total* totals = nullptr;  // [line]
};

// A plan's lists and the items that it was made for, in device memory; counts and sizes are the plan's.
struct score_work {
  const score_task* tasks = nullptr;
  std::uint32_t task_count = 0;
  const score_task* lines = nullptr;
  std::uint32_t line_count = 0;
  const std::uint64_t* first_maximum = nullptr;
  const softmax_blocks* items = nullptr;
  float* scratch = nullptr;  // score_plan::scratch_bytes
  std::uint32_t shared_bytes = 0;
};

// The same bits whenever it runs. Behind `stream`, like all of these: they allocate nothing and do not wait,
// so a graph can capture them.
cudaError_t softmax_block_sums(const score_work& work, cudaStream_t stream);

// Queries against single vectors, or against boxes: the lower corner's channels and behind them the upper
// one's, queries have half as many.
struct vector_scores {
  score_vectors vectors;
  const float* queries = nullptr;  // [line][channel]
  std::uint32_t lines = 0;
  float* out = nullptr;  // [line][vector]
};

// `items`: `count` of them in device memory, none with more than `most_vectors` vectors, `most_lines` lines
// or most_score_channels channels of queries (else cudaErrorInvalidValue where `most_channels` says so).
struct score_limits {
  std::uint32_t most_vectors = 0;
  std::uint32_t most_lines = 0;
  std::uint32_t most_channels = 0;  // of the queries
};

cudaError_t vector_products(const vector_scores* items, std::uint32_t count, const score_limits& limits,
                            cudaStream_t stream);

// Upper bounds of products with anything inside the boxes. (Quest, arXiv 2406.10774.)
cudaError_t box_bounds(const vector_scores* items, std::uint32_t count, const score_limits& limits,
                       cudaStream_t stream);

}  // namespace weft::kernels::cuda
