#include <weft/kernels/attention_prefill.hpp>

#include "cpu/attention_layout.hpp"
#include "cpu/prefill_block.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_prefill.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/prefill_block-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

void attend_block(const prefill_block& block) {
  with_block(block, [](auto&& attention) { attention.attend_all(); });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(attend_block);

namespace {

void check(const attention_shape& shape, std::size_t heads) {
  const bool grouped = shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0;
  if (!grouped || heads != shape.kv_heads) {
    throw std::invalid_argument("attention_prefill: one row list per KV head, whole groups of query heads");
  }
  if (shape.head_dim == 0 || shape.head_dim % 2 != 0 || shape.head_dim > max_head_dim) {
    throw std::invalid_argument("attention_prefill: head_dim must be even and at most 512");
  }
}

}  // namespace

void attention_prefill(const attention_shape& shape, const prefill_queries& queries,
                       std::span<const prefill_kv_head> heads, float* out, std::size_t out_stride,
                       workspace& scratch, thread_pool& pool) {
  check(shape, heads.size());
  if (queries.rows == 0) return;
  const std::size_t group = shape.query_heads / shape.kv_heads;
  const std::size_t each = rows_per_block(shape, queries.rows, pool.threads());
  const std::size_t blocks = (queries.rows + each - 1) / each;
  const std::size_t bytes = prefill_memory::size_bytes(shape, each * group);
  std::byte* const memory = scratch.reserve(bytes * pool.threads()).data();
  auto* const attend = &HWY_DYNAMIC_DISPATCH(attend_block);
  pool.parallel_for(blocks * heads.size(), [&](std::size_t index, unsigned worker) {
    // Later rows see more keys: they go first, so that no long task is left for the end.
    const std::size_t first_row = (blocks - 1 - index / heads.size()) * each;
    prefill_block block{};
    block.shape = &shape;
    block.queries = &queries;
    block.kv_head = index % heads.size();
    block.keys = &heads[block.kv_head];
    block.first_row = first_row;
    block.rows = std::min<std::size_t>(each, queries.rows - first_row);
    block.group = group;
    block.out = out;
    block.out_stride = out_stride;
    block.scratch = memory + worker * bytes;
    attend(block);
  });
}

}  // namespace weft::kernels
#endif
