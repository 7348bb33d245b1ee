// Blocks put together on a device: lists of what the kernels copy, encode, fill up and sum.
#pragma once

#include <weft/block/band_places.hpp>
#include <weft/engine/document_blocks.hpp>
#include <weft/kernels/cuda/block_work.hpp>

#include "device_kernels.hpp"
#include "staging.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

// Where a block's rows lie on the device: the keys of (layer 0, KV head 0, its first token), and the values.
struct rows_there {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  std::size_t layer_bytes = 0;
  std::size_t token_bytes = 0;  // KV heads come one after the other
};

// Memory is kept from one use to the next.
class block_assembly {
 public:
  void clear();

  // A block that `block::check_place` took. `image`: room on the device for all of its bytes, of which the
  // header's stay as they are. What the lists hold goes to `lists`.
  void add(const block_place& block, const block::shape& shape, const rows_there& rows, std::byte* image,
           staging& lists);

  // Of all blocks that were added; every checksum is one of a band, in the order of blocks and bands.
  std::size_t bands() const { return sums_.size(); }
  result<void> run(const block::shape& shape, std::uint64_t* checksums, staging& lists,
                   device_kernels& kernels, device::stream& stream) const;

 private:
  // One layer of a band.
  struct layer_rows {
    std::span<const std::uint16_t> counts;     // by KV head
    const std::uint16_t* positions = nullptr;  // there
    std::uint32_t rows = 0;
    std::uint8_t band = 0;
    kernels::row_codec coding = kernels::row_codec::raw;
    const std::byte* k = nullptr;  // of the first token and KV head
    const std::byte* v = nullptr;
    const std::uint8_t* bands = nullptr;  // of each token of the first KV head
  };

  const std::uint8_t* list_bands(const block_place& block, const block::shape& shape, staging& lists);
  void fill_up(const block::layer_place& place, const layer_rows& rows, const block::shape& shape,
               std::byte* image);
  void zero(std::byte* image, std::size_t from, std::size_t to);
  void copy(const block::layer_place& place, const layer_rows& rows, const block::shape& shape,
            std::size_t token_bytes, std::byte* image);
  void encode(const block::layer_place& place, const layer_rows& rows, const block::shape& shape,
              std::size_t token_bytes, std::byte* image);

  std::vector<std::uint8_t> band_of_;
  std::vector<kernels::cuda::filled_part> parts_;
  std::vector<kernels::cuda::band_rows> copied_;
  std::vector<kernels::cuda::rows_to_encode> encoded_;
  std::uint32_t most_encoded_ = 0;
  std::vector<kernels::cuda::checked_part> sums_;
};

}  // namespace weft::engine
