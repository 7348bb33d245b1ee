// What attention_decode.hpp attends to, as it lies in device memory. Needs no CUDA itself.
#pragma once

#include <weft/kernels/cuda/decode_plan.hpp>
#include <weft/kernels/row_codec.hpp>

#include <cstddef>
#include <cstdint>

namespace weft::kernels::cuda {

// Consecutive rows: [rows][head_dim] each, or the codes of `coding`, which are read as they are. 16-byte
// aligned.
struct kv_run {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  std::uint32_t rows = 0;
  row_codec coding = row_codec::raw;
  const std::uint16_t* k_scales = nullptr;  // [rows][scales_per_row], where it is not raw
  const std::uint16_t* v_scales = nullptr;
};

// One KV head of one session: its group of query heads over its rows, which are the runs one after the other.
struct decode_head {
  const float* q = nullptr;  // rotated, [group][head_dim]
  float* out = nullptr;      // [group][head_dim]; zeros if there are no rows
  const kv_run* runs = nullptr;
  std::uint32_t run_count = 0;
};

// A plan's lists and the heads' descriptions, in device memory. There may be more pieces than the plan's:
// behind them, of any head and without rows, as a graph launches as many for every plan.
struct decode_work {
  const decode_piece* pieces = nullptr;
  const std::uint32_t* first_piece = nullptr;
  std::uint32_t piece_count = 0;
  std::uint32_t head_count = 0;
  const decode_head* heads = nullptr;
  float* scratch = nullptr;  // decode_plan::scratch_bytes
};

}  // namespace weft::kernels::cuda
