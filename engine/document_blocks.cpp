#include <weft/engine/document_blocks.hpp>
#include <weft/engine/written_blocks.hpp>

#include "device/device_document.hpp"
#include "device/device_kernels.hpp"

namespace weft::engine {

namespace {

result<void> write_here(const encoded_document& rows, std::uint32_t block_tokens,
                        std::span<const block_place> blocks) {
  for (const block_place& block : blocks)
    if (auto done = block::write(block.out, block.id, rows.block_shape(block.index, block_tokens),
                                 block.bands, rows.block_source(block.index, block_tokens));
        !done)
      return done;
  return {};
}

}  // namespace

result<void> write_blocks(const encoded_document& rows, std::uint32_t block_tokens,
                          std::span<const block_place> blocks) {
  if (blocks.empty()) return {};
  const compute_device* const on = rows.computed_on();
  if (on == nullptr) return write_here(rows, block_tokens, blocks);
  device_document* const there = rows.there();
  if (there != nullptr && there->write(block_tokens, blocks)) {
    blocks_of(*on).there += blocks.size();
    return {};
  }
  blocks_of(*on).here += blocks.size();
  return write_here(rows, block_tokens, blocks);
}

written_blocks& blocks_of(const compute_device& on) {
  return on.kernels->blocks;
}

}  // namespace weft::engine
