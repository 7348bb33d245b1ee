#include "block_assembly.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::uint8_t no_band = 0xFF;

}  // namespace

void block_assembly::clear() {
  parts_.clear();
  copied_.clear();
  encoded_.clear();
  most_encoded_ = 0;
  sums_.clear();
}

// [layer][kv_head][token], by which rows are copied.
const std::uint8_t* block_assembly::list_bands(const block_place& block, const block::shape& shape,
                                               staging& lists) {
  const std::size_t heads = std::size_t{shape.layers} * shape.kv_heads;
  band_of_.assign(heads * shape.tokens, no_band);
  for (std::size_t band = 0; band < block.bands.size(); ++band) {
    const std::uint16_t* position = block.bands[band].positions.data();
    for (std::size_t head = 0; head < heads; ++head)
      for (std::uint32_t row = 0; row < block.bands[band].counts[head]; ++row)
        band_of_[head * shape.tokens + *position++] = static_cast<std::uint8_t>(band);
  }
  return lists.add(std::span(std::as_const(band_of_)));
}

void block_assembly::add(const block_place& block, const block::shape& shape, const rows_there& rows,
                         std::byte* image, staging& lists) {
  const std::uint8_t* const bands = list_bands(block, shape, lists);
  const auto places = block::places_of(shape, block.bands);
  for (std::size_t band = 0; band < places.size(); ++band) {
    const block::band_rows& held = block.bands[band];
    const auto* const counts = lists.add(std::span(held.counts));
    const auto* positions = lists.add(std::span(held.positions));
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
      const std::size_t head = std::size_t{layer} * shape.kv_heads;
      const layer_rows here{
          .counts = std::span(held.counts).subspan(head, shape.kv_heads),
          .positions = positions,
          .rows = std::accumulate(held.counts.begin() + static_cast<std::ptrdiff_t>(head),
                                  held.counts.begin() + static_cast<std::ptrdiff_t>(head + shape.kv_heads),
                                  std::uint32_t{0}),
          .band = static_cast<std::uint8_t>(band),
          .coding = held.coding,
          .k = rows.k + layer * rows.layer_bytes,
          .v = rows.v + layer * rows.layer_bytes,
          .bands = bands + head * shape.tokens};
      const block::layer_place& place = places[band].layers[layer];
      parts_.push_back({.numbers = counts + head, .count = shape.kv_heads, .to = image + place.index});
      fill_up(place, here, shape, image);
      if (held.coding == kernels::row_codec::raw)
        copy(place, here, shape, rows.token_bytes, image);
      else
        encode(place, here, shape, rows.token_bytes, image);
      positions += here.rows;
    }
    sums_.push_back({image + places[band].range.offset, places[band].range.bytes / sizeof(std::uint64_t)});
  }
}

void block_assembly::zero(std::byte* image, std::size_t from, std::size_t to) {
  if (from < to) parts_.push_back({.zero_bytes = static_cast<std::uint32_t>(to - from), .to = image + from});
}

// Positions, and what no row fills.
void block_assembly::fill_up(const block::layer_place& place, const layer_rows& rows,
                             const block::shape& shape, std::byte* image) {
  const std::size_t counts_bytes = shape.kv_heads * sizeof(std::uint16_t);
  const std::size_t index_bytes = counts_bytes + rows.rows * sizeof(std::uint16_t);
  parts_.push_back({.numbers = rows.positions,
                    .count = rows.rows,
                    .zero_bytes = static_cast<std::uint32_t>(place.k - place.index - index_bytes),
                    .to = image + place.index + counts_bytes});
  const std::size_t codes = rows.rows * kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
  const std::size_t scales =
      rows.rows * kernels::scales_per_row(rows.coding, shape.head_dim) * sizeof(std::uint16_t);
  zero(image, place.k + codes, place.k_scales);
  zero(image, place.k_scales + scales, place.v);
  zero(image, place.v + codes, place.v_scales);
  zero(image, place.v_scales + scales, place.end);
}

void block_assembly::copy(const block::layer_place& place, const layer_rows& rows, const block::shape& shape,
                          std::size_t token_bytes, std::byte* image) {
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  std::size_t at = 0;
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    const std::uint16_t count = rows.counts[head];
    if (count == 0) continue;
    copied_.push_back({.bands = rows.bands + std::size_t{head} * shape.tokens,
                       .rows = shape.tokens,
                       .band = rows.band,
                       .k = rows.k + head * row_bytes,
                       .v = rows.v + head * row_bytes,
                       .row_stride_bytes = token_bytes,
                       .k_out = image + place.k + at,
                       .v_out = image + place.v + at});
    at += count * row_bytes;
  }
}

void block_assembly::encode(const block::layer_place& place, const layer_rows& rows,
                            const block::shape& shape, std::size_t token_bytes, std::byte* image) {
  const std::size_t element_bytes = kernels::size_bytes(shape.dtype);
  const std::size_t code_bytes = kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
  const std::size_t scales = kernels::scales_per_row(rows.coding, shape.head_dim);
  std::size_t row = 0;
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    const std::uint16_t count = rows.counts[head];
    if (count == 0) continue;
    const auto list = [&](const std::byte* from, std::size_t codes_at, std::size_t scales_at) {
      encoded_.push_back({.rows = from + head * shape.head_dim * element_bytes,
                          .row_stride = token_bytes / element_bytes,
                          .indices = rows.positions + row,
                          .count = count,
                          .coding = rows.coding,
                          .codes = image + codes_at + row * code_bytes,
                          .scales = reinterpret_cast<std::uint16_t*>(image + scales_at) + row * scales});
    };
    list(rows.k, place.k, place.k_scales);
    list(rows.v, place.v, place.v_scales);
    most_encoded_ = std::max<std::uint32_t>(most_encoded_, count);
    row += count;
  }
}

result<void> block_assembly::run(const block::shape& shape, std::uint64_t* checksums, staging& lists,
                                 device_kernels& kernels, device::stream& stream) const {
  const auto count_of = [](const auto& list) { return static_cast<std::uint32_t>(list.size()); };
  const auto* const parts = lists.add(std::span(parts_));
  const auto* const copied = lists.add(std::span(copied_));
  const auto* const encoded = lists.add(std::span(encoded_));
  const auto* const sums = lists.add(std::span(sums_));
  if (auto flushed = lists.flush(); !flushed) return flushed;
  kernels.fill_parts(parts, count_of(parts_), stream);
  if (!copied_.empty())
    kernels.gather_band_rows(copied, count_of(copied_),
                             static_cast<std::uint32_t>(shape.head_dim * kernels::size_bytes(shape.dtype)),
                             stream);
  if (!encoded_.empty())
    kernels.encode_rows(encoded, count_of(encoded_), most_encoded_, shape.head_dim, shape.dtype, stream);
  kernels.checksums(sums, count_of(sums_), checksums, stream);
  return {};
}

}  // namespace weft::engine
