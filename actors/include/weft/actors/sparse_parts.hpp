// What sparse decoding needs of a document besides its blocks, in the pool as opaque blocks of their own
// (docs/sparse-parts.md has every byte): one index for the document, and the reduced keys of each full block,
// which stand beside the block.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/document.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::actors {

struct sparse_index {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t block_tokens = 0;
  std::uint32_t blocks = 0;  // full ones
  std::uint32_t bands = 0;   // of each
  std::uint32_t channels = 0;
  std::uint32_t token_merge = 0;
  kernels::dtype type = kernels::dtype::bf16;
  std::vector<std::uint32_t> kept;       // [layer][kv_head][channel]
  std::vector<std::uint64_t> checksums;  // [block][layer][band]: `block::layer_checksum`
  std::vector<std::uint16_t> rows;       // [block][layer][band][kv_head]

  std::span<const std::uint32_t> channels_of(std::uint32_t layer, std::uint32_t kv_head) const {
    return std::span(kept).subspan((std::size_t{layer} * kv_heads + kv_head) * channels, channels);
  }
  std::span<const std::uint64_t> checksums_of(std::uint32_t block, std::uint32_t layer) const {
    return std::span(checksums).subspan((std::size_t{block} * layers + layer) * bands, bands);
  }
  // Of one KV head of a block, in so many of its bands.
  std::uint32_t rows_of(std::uint32_t block, std::uint32_t layer, std::uint32_t kv_head,
                        std::uint32_t wanted_bands) const {
    std::uint32_t sum = 0;
    for (std::uint32_t band = 0; band < wanted_bands; ++band)
      sum += rows[((std::size_t{block} * layers + layer) * bands + band) * kv_heads + kv_head];
    return sum;
  }
  std::uint32_t merged() const { return (block_tokens + token_merge - 1) / token_merge; }
  std::size_t reduced_bytes() const {
    return std::size_t{layers} * kv_heads * merged() * channels * kernels::size_bytes(type);
  }

  friend bool operator==(const sparse_index&, const sparse_index&) = default;
};
using sparse_index_ptr = std::shared_ptr<const sparse_index>;

inline constexpr double reduced_dim_ratio = 0.25;
inline constexpr std::uint32_t reduced_token_merge = 2;

// Chooses the channels of a document; `checksums` and `rows` are filled in block by block. No blocks: it has
// no full one.
sparse_index describe_sparse(const engine::encoded_document& document, std::uint32_t block_tokens);

// Adds what a finished block, the next full one, is proven by, and how many rows it has where.
result<void> add_block(sparse_index& index, std::span<const std::byte> block);

// The reduced keys of block `number` before RoPE, [layer][kv_head][merged][channel] in the index's type.
std::vector<std::byte> reduced_keys(const sparse_index& index, const engine::encoded_document& document,
                                    std::uint32_t number);

// The same from a verified block that holds every row, decoded: what readers do where reduced keys are gone.
result<std::vector<std::byte>> reduced_keys(const sparse_index& index, const block::view& block);

// All keys of one (layer, KV head) of a verified block, f32 [token][head_dim]. False: not all are there.
bool keys_of(const block::view& block, std::uint32_t layer, std::uint32_t kv_head, std::span<float> out);

std::vector<std::byte> to_bytes(const sparse_index& index);
// `corrupt` for bytes that contradict themselves.
result<sparse_index> sparse_index_from_bytes(std::span<const std::byte> bytes);

inline constexpr std::uint64_t sparse_index_tag = 0x3165737261707377;  // "wsparse1", little endian
inline constexpr std::uint64_t reduced_keys_tag = 0x3164656375646572;  // "reduced1", little endian

}  // namespace weft::actors
