#include "fresh_rows.hpp"

#include "kv_cache_slots.hpp"

#include <numeric>

namespace weft::engine {

void fresh_rows::open(std::uint32_t layer, const row_chunk& chunk, std::vector<slot_run>& runs) {
  if (slots_.size() < chunk.tokens.size()) slots_.resize(chunk.tokens.size());
  for (const row_group& group : chunk.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::span<std::uint32_t> slots(slots_.data(), group.rows);
      open_slots(*group.cache, layer, head, chunk.positions.subspan(group.first_row, group.rows),
                 chunk.segments.subspan(group.first_row, group.rows), slots);
      for (std::uint32_t begin = 0, end = 0; begin < group.rows; begin = end) {
        for (end = begin + 1; end < group.rows && slots[end] == slots[end - 1] + 1;)
          ++end;
        runs.push_back({group.cache, head, group.first_row + begin, end - begin, slots[begin]});
      }
    }
}

// Keys are rotated from their rounded form by the kernel that also loads them out of the pool: what attends
// is the same, bit for bit, whether it was computed here or came from there.
void fresh_rows::scatter(std::uint32_t layer, std::span<const slot_run> runs, const std::byte* k,
                         const std::byte* v, const kernels::rotation_table& rotations,
                         kernels::thread_pool& pool) {
  if (row_numbers_.size() < rotations.size()) {
    row_numbers_.resize(rotations.size());
    std::iota(row_numbers_.begin(), row_numbers_.end(), std::uint16_t{0});
  }
  const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  scatters_.clear();
  for (const slot_run& run : runs) {
    const std::size_t source = (std::size_t{run.first_row} * shape_.kv_heads + run.kv_head) * head_bytes;
    const kv_shape& target = run.cache->shape();
    scatters_.push_back(
        {.k = k + source,
         .v = v + source,
         .source_row_stride = std::size_t{shape_.kv_heads} * shape_.head_dim,
         .entries = row_numbers_.data() + run.first_row,
         .rows = run.rows,
         .rotations = &rotations,
         .k_out = run.cache->k(layer, run.kv_head) + run.slot * target.row_bytes(),
         .v_out = run.cache->v(layer, run.kv_head) + run.slot * target.row_bytes(),
         .coding_out = target.coding,
         .k_scales_out = run.cache->k_scales(layer, run.kv_head) + run.slot * target.row_scales(),
         .v_scales_out = run.cache->v_scales(layer, run.kv_head) + run.slot * target.row_scales()});
  }
  kernels::rotate_scatter(scatters_, shape_.dtype, pool);
}

}  // namespace weft::engine
