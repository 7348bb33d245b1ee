#include "slot_writer.hpp"

namespace weft::actors {

result<void> slot_writer::put(const sparse_context_plan& plan, const sparse_index& index,
                              const engine::block_load& load, std::span<const block::layer_bytes> bands) {
  const block::shape shape{.layers = plan.shape.layers,
                           .kv_heads = plan.shape.kv_heads,
                           .head_dim = plan.shape.head_dim,
                           .tokens = plan.how.block_tokens,
                           .dtype = plan.shape.dtype};
  const auto middle = plan.blocks.middle_blocks()[load.block];
  const std::uint32_t number = middle.first_token / plan.how.block_tokens;
  const auto found = block::proven_layer(shape, bands, index.checksums_of(number, load.layer));
  if (!found) return tl::make_unexpected(found.error());
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  rotations_.assign(plan.frequencies, middle.start_position, shape.tokens);
  items_.clear();
  filled_.assign(shape.kv_heads, 0);
  for (const block::band_layer& rows : *found) {
    const std::size_t code_bytes = kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
    const std::size_t scales = kernels::scales_per_row(rows.coding, shape.head_dim);
    std::size_t row = 0;
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::uint32_t count = rows.counts[head];
      const engine::slot_head& to = load.heads[head];
      if (filled_[head] + count > to.capacity_rows)
        return fail(errc::corrupt, "a block has more rows than its document's index says");
      if (count > 0)
        items_.push_back({.k = rows.k + row * code_bytes,
                          .v = rows.v + row * code_bytes,
                          .source_row_stride = shape.head_dim,
                          .coding = rows.coding,
                          .k_scales = rows.k_scales + row * scales,
                          .v_scales = rows.v_scales + row * scales,
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
