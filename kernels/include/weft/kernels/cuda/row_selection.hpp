// Which band each row of a document belongs to, by its score, on a GPU: one histogram over all lists gives
// the cuts of all bands.
//
// Scores are compared by the upper 16 bits of an order-preserving form (-0 = +0, NaN last), equal ones by
// list and place: the order in which the CPU's policies keep rows, row for row.
#pragma once

#include <weft/kernels/cuda/selection_plan.hpp>

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

inline constexpr std::uint8_t no_band = 0xFF;

// The rows of one (layer, KV head); lists come in the order of layers and heads.
struct score_list {
  const float* scores = nullptr;
  std::uint8_t* bands = nullptr;  // out: of each row, no_band beyond the last cut
};

// All keys above `key` lie before a cut, and of those that equal it the first `ties`.
struct selection_cut {
  std::uint32_t key;
  std::uint32_t ties;
};

// All in device memory; counts are the plan's.
struct selection_work {
  const score_piece* pieces = nullptr;
  std::uint32_t piece_count = 0;
  std::uint32_t scores = 0;
  const score_list* lists = nullptr;
  const std::uint32_t* wanted = nullptr;  // [cut] rows of bands 0..cut together; they do not fall
  std::uint32_t cut_count = 0;            // 1 to most_cuts
  selection_cut* cuts = nullptr;          // out: [cut]
  std::uint32_t* scratch = nullptr;       // selection_plan::scratch_bytes
};

// Runs behind `stream`; allocates nothing and does not wait, so a graph can capture it.
// cudaErrorInvalidValue for no cuts or too many.
cudaError_t select_bands(const selection_work& work, cudaStream_t stream);

}  // namespace weft::kernels::cuda
