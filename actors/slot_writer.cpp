#include "slot_writer.hpp"

#include <weft/block/proven_layer.hpp>

namespace weft::actors {

result<void> slot_writer::put(const sparse_context_plan& plan, const sparse_index& index,
                              const engine::block_load& load, std::span<const block::byte_range> ranges,
                              std::span<const std::byte> bytes) {
  const block::shape shape{.layers = plan.shape.layers,
                           .kv_heads = plan.shape.kv_heads,
                           .head_dim = plan.shape.head_dim,
                           .tokens = plan.how.block_tokens,
                           .dtype = plan.shape.dtype};
  std::vector<std::span<const std::byte>> bands;
  std::size_t at = 0;
  for (const auto& range : ranges) {
    bands.push_back(bytes.subspan(at, range.bytes));
    at += range.bytes;
  }
  const auto middle = plan.blocks.middle_blocks()[load.block];
  const std::uint32_t number = middle.first_token / plan.how.block_tokens;
  const auto found = block::proven_layer(shape, bands, index.checksums_of(number, load.layer));
  if (!found) return tl::make_unexpected(found.error());
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  rotations_.assign(plan.frequencies, middle.start_position, shape.tokens);
  items_.clear();
  filled_.assign(shape.kv_heads, 0);
  for (const block::band_layer& rows : *found) {
    std::size_t row = 0;
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::uint32_t count = rows.counts[head];
      const engine::slot_head& to = load.heads[head];
      if (filled_[head] + count > to.capacity_rows)
        return fail(errc::corrupt, "a block has more rows than its document's index says");
      if (count > 0)
        items_.push_back({.k = rows.k + row * row_bytes,
                          .v = rows.v + row * row_bytes,
                          .source_row_stride = shape.head_dim,
                          .entries = rows.positions + row,
                          .rows = count,
                          .rotations = &rotations_,
                          .k_out = to.k + filled_[head] * row_bytes,
                          .v_out = to.v + filled_[head] * row_bytes});
      filled_[head] += count;
      row += count;
    }
  }
  kernels::rotate_scatter(items_, shape.dtype, threads_);
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
    load.heads[head].rows = filled_[head];
  return {};
}

}  // namespace weft::actors
