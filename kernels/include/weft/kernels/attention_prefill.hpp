// Attention of many query rows over one cache, under a segment mask, without a rows x rows buffer.
//
// Query row q sees key row k iff position(k) <= position(q) and (segment(k) == segment(q) or segment(q) ==
// 0). A query row that sees nothing gives zeros.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/products.hpp>
#include <weft/kernels/row_codec.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::kernels {

// What prefill and decode attention share.
struct attention_shape {
  std::uint32_t query_heads =
      0;  // a multiple of kv_heads; query head h reads KV head h / (query_heads / kv_heads)
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;  // even
  dtype kv_dtype = dtype::bf16;
  float scale = 1.0F;  // of the scores, usually 1/sqrt(head_dim)
  products allowed = products::automatic;
};

struct prefill_queries {
  const float* q = nullptr;    // rotated, [rows][query_heads][head_dim]
  std::size_t row_stride = 0;  // floats
  std::uint32_t rows = 0;
  const std::int32_t* positions = nullptr;  // [rows], any order (ascending is fastest)
  const std::int32_t* segments = nullptr;   // [rows]
};

// The rows of one KV head; each head has its own.
struct prefill_kv_head {
  const std::byte* k = nullptr;  // rotated, [rows][head_dim] of the shape's kv_dtype, or codes of `coding`
  const std::byte* v = nullptr;
  std::uint32_t rows = 0;
  const std::int32_t* positions = nullptr;  // [rows], any order (ascending is fastest)
  const std::int32_t* segments = nullptr;   // [rows]
  row_codec coding = row_codec::raw;
  const std::uint16_t* k_scales = nullptr;  // [rows][scales_per_row], where it is not raw
  const std::uint16_t* v_scales = nullptr;
  // Of attention_prefill: rows of the same head that lie elsewhere, looked at before these.
  const prefill_kv_head* before = nullptr;
};

// out: f32 [rows][query_heads][head_dim], rows `out_stride` floats apart. `heads.size() == shape.kv_heads`.
// The result does not depend on the number of threads.
void attention_prefill(const attention_shape& shape, const prefill_queries& queries,
                       std::span<const prefill_kv_head> heads, float* out, std::size_t out_stride,
                       workspace& scratch, thread_pool& pool);

}  // namespace weft::kernels
