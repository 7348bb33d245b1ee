#include <weft/block/layout.hpp>

#include "checksum.hpp"
#include "geometry.hpp"
#include "header.hpp"
#include "layer_split.hpp"
#include "row_set.hpp"

#include <cstdint>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

namespace weft::block {

namespace {

tl::unexpected<error> corrupt(const std::string& what) {
  return fail(errc::corrupt, "block: " + what + "; fetch another copy or compute the block");
}

std::string name_of_layer(std::uint32_t band, std::uint32_t layer) {
  return "band " + std::to_string(band) + ", layer " + std::to_string(layer);
}

}  // namespace

result<view> view::parse(std::span<const std::byte> bytes) {
  view parsed;
  if (auto read = parsed.read(bytes); !read) return tl::unexpected(read.error());
  return parsed;
}

result<void> view::read(std::span<const std::byte> bytes) {
  if (reinterpret_cast<std::uintptr_t>(bytes.data()) % 8 != 0)
    return fail(errc::invalid_argument, "a block must start at a multiple of 8 in memory");
  const auto header = load_header(bytes);
  if (!header) return tl::unexpected(header.error());
  bytes_ = bytes;
  id_ = header->id;
  shape_ = header->dimensions;
  header_bytes_ = header->header_bytes;
  layout_tag_ = header->layout_tag;
  payload_bytes_ = header->payload_bytes;
  opaque_ = header->kind == block_kind::opaque;
  index_.clear();
  index_starts_.clear();
  if (auto read = read_bands(header->bands); !read) return read;
  return count_present();
}

result<void> view::read_bands(std::size_t count) {
  std::uint64_t expected_offset = header_bytes_;
  bands_.clear();
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto loaded = load_band(bytes_, i);
    if (!loaded) return tl::unexpected(loaded.error());
    // `max_band_bytes` times the number of bands is far from the end of 64 bits: no sum below wraps.
    if (loaded->offset != expected_offset || loaded->bytes % part_alignment_bytes != 0 ||
        loaded->bytes > max_band_bytes)
      return corrupt("band " + std::to_string(i) + " does not stand where the one before it ends");
    bands_.push_back({loaded->offset, loaded->bytes, loaded->checksum, loaded->coding, loaded->min_score});
    expected_offset += loaded->bytes;
  }
  if (auto read = read_layer_starts(fixed_header_bytes + count * band_entry_bytes); !read) return read;
  const bool payload_fits =
      payload_bytes_ <= max_band_bytes && round_up_to_part(payload_bytes_) == bands_[0].bytes;
  if (opaque_ && (!payload_fits || bands_[0].coding != codec::raw))
    return corrupt("the payload's length does not fit its band");
  return {};
}

std::span<std::uint32_t> view::layer_starts(std::size_t band) {
  const std::size_t columns = shape_.layers + std::size_t{1};
  return std::span{layer_starts_}.subspan(band * columns, columns);
}

result<void> view::read_layer_starts(std::size_t table_offset) {
  if (shape_.layers == 0) return {};
  const std::size_t row_bytes = shape_.layers * layer_start_bytes;
  layer_starts_.resize(bands_.size() * (shape_.layers + std::size_t{1}));
  for (std::size_t band = 0; band < bands_.size(); ++band) {
    const auto starts = layer_starts(band);
    std::memcpy(starts.data(), bytes_.subspan(table_offset + band * row_bytes, row_bytes).data(), row_bytes);
    starts.back() = static_cast<std::uint32_t>(bands_[band].bytes / part_alignment_bytes);
    bool ascending = starts.front() == 0;
    for (std::size_t i = 0; i < shape_.layers; ++i)
      ascending = ascending && starts[i] < starts[i + 1];
    if (!ascending) return corrupt("the layers of band " + std::to_string(band) + " overlap or leave it");
  }
  return {};
}

result<void> view::count_present() {
  present_ = 0;
  std::size_t end = header_bytes_;
  while (present_ < band_count() && end_of_band(present_) <= bytes_.size())
    end = end_of_band(present_++);
  if (end != bytes_.size())
    return corrupt("its " + std::to_string(bytes_.size()) +
                   " bytes end neither behind a band nor with the block");
  return {};
}

const view::band_entry& view::entry(std::uint32_t band) const {
  return bands_.at(band);
}

std::size_t view::end_of_band(std::uint32_t band) const {
  return entry(band).offset + entry(band).bytes;
}

byte_range view::range_of_band(std::uint32_t band) const {
  return {.offset = entry(band).offset, .bytes = entry(band).bytes};
}

std::uint64_t view::checksum_of_band(std::uint32_t band) const {
  return entry(band).checksum;
}

float view::min_score(std::uint32_t band) const {
  return entry(band).min_score;
}

codec view::coding(std::uint32_t band) const {
  return entry(band).coding;
}

byte_range view::range_of_layer(std::uint32_t band, std::uint32_t layer) const {
  if (layer >= shape_.layers) throw std::out_of_range("layer " + std::to_string(layer) + " of a block");
  const band_entry& e = entry(band);
  const auto* starts = layer_starts_.data() + band * (shape_.layers + std::size_t{1});
  const std::size_t first = starts[layer] * part_alignment_bytes;
  const std::size_t end = starts[layer + std::size_t{1}] * part_alignment_bytes;
  return {.offset = e.offset + first, .bytes = end - first};
}

result<void> view::verify_bands() const {
  for (std::uint32_t band = 0; band < present_; ++band)
    if (auto verified = verify_checksum(band); !verified) return verified;
  return opaque_ ? result<void>{} : verify_rows();
}

result<void> view::verify_checksum(std::uint32_t band) const {
  const band_entry& e = entry(band);
  if (checksum_of(bytes_.subspan(e.offset, e.bytes)) != e.checksum)
    return corrupt("checksum of band " + std::to_string(band) + " differs");
  return verify_codec(band);
}

result<void> view::verify_codec(std::uint32_t band) const {
  const auto coding = entry(band).coding;
  if (is_known(coding)) return {};
  return fail(errc::unsupported,
              "block: codec " + std::to_string(static_cast<int>(coding)) + " of band " +
                  std::to_string(band) +
                  " is none of raw, int8 and int4; fetch only the bands in front of it, or use a newer weft");
}

result<void> view::verify_rows() const {
  row_set claimed(shape_.kv_heads, shape_.tokens);
  return verify_rows(claimed);
}

result<void> view::verify_rows(row_set& claimed) const {
  for (std::uint32_t band = 0; band < present_; ++band)
    if (auto readable = verify_codec(band); !readable) return readable;
  claimed.reset(shape_.kv_heads, shape_.tokens);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    if (auto verified = verify_rows(layer, claimed); !verified) return verified;
  return {};
}

result<void> view::verify_layer(std::uint32_t layer) const {
  for (std::uint32_t band = 0; band < present_; ++band)
    if (auto known = verify_codec(band); !known) return known;
  row_set claimed(shape_.kv_heads, shape_.tokens);
  return verify_rows(layer, claimed);
}

result<void> view::verify_rows(std::uint32_t layer, row_set& claimed) const {
  claimed.clear();
  for (std::uint32_t band = 0; band < present_; ++band) {
    const byte_range range = range_of_layer(band, layer);
    const auto [fits, rows] =
        split_layer(bytes_.subspan(range.offset, range.bytes), shape_, entry(band).coding);
    if (!fits) return corrupt("counts of " + name_of_layer(band, layer) + " do not fit its length");
    if (!claimed.add({rows.counts, shape_.kv_heads}, {rows.positions, rows.rows}))
      return corrupt("positions of " + name_of_layer(band, layer) +
                     " are out of range, out of order or repeated");
  }
  return {};
}

result<void> view::keep_index() {
  index_starts_.clear();
  index_.clear();
  row_set claimed(shape_.kv_heads, shape_.tokens);
  std::vector<std::size_t> starts(std::size_t{present_} * shape_.layers);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    claimed.clear();
    for (std::uint32_t band = 0; band < present_; ++band) {
      if (auto readable = verify_codec(band); !readable) return readable;
      starts[std::size_t{band} * shape_.layers + layer] = index_.size();
      if (auto kept = keep_index(band, layer, claimed); !kept) return kept;
    }
  }
  index_starts_ = std::move(starts);
  return {};
}

result<void> view::keep_index(std::uint32_t band, std::uint32_t layer, row_set& claimed) {
  const byte_range range = range_of_layer(band, layer);
  const auto misfit = [&] {
    return corrupt("counts of " + name_of_layer(band, layer) + " do not fit its length");
  };
  if (range.bytes < parts_of_layer(shape_, 0, entry(band).coding).size_bytes()) return misfit();
  const std::byte* in_block = bytes_.data() + range.offset;
  const std::size_t start = index_.size();
  const auto take = [&](std::size_t first, std::size_t count) {
    index_.resize(start + first + count);
    std::memcpy(index_.data() + start + first, in_block + first * sizeof(std::uint16_t),
                count * sizeof(std::uint16_t));
  };
  take(0, shape_.kv_heads);
  const auto counts = [&] { return std::span<const std::uint16_t>{index_}.subspan(start, shape_.kv_heads); };
  const std::uint32_t rows = std::accumulate(counts().begin(), counts().end(), std::uint32_t{0});
  if (parts_of_layer(shape_, rows, entry(band).coding).size_bytes() != range.bytes) return misfit();
  take(shape_.kv_heads, rows);
  const auto positions = std::span<const std::uint16_t>{index_}.subspan(start + shape_.kv_heads, rows);
  if (!claimed.add(counts(), positions))
    return corrupt("positions of " + name_of_layer(band, layer) +
                   " are out of range, out of order or repeated");
  return {};
}

band_layer view::kept_layer(std::uint32_t band, std::uint32_t layer, const byte_range& range) const {
  const std::uint16_t* index = index_.data() + index_starts_[std::size_t{band} * shape_.layers + layer];
  const std::uint32_t rows = std::accumulate(index, index + shape_.kv_heads, std::uint32_t{0});
  const codec coding = entry(band).coding;
  return layer_of(bytes_.data() + range.offset, parts_of_layer(shape_, rows, coding), index, shape_.kv_heads,
                  rows, coding);
}

band_layer view::layer(std::uint32_t band, std::uint32_t layer) const {
  if (band >= present_)
    throw std::out_of_range("band " + std::to_string(band) + " of a block is not present");
  const byte_range range = range_of_layer(band, layer);
  if (!index_starts_.empty()) return kept_layer(band, layer, range);
  if (!is_known(entry(band).coding)) throw std::logic_error("rows of a band whose codec is not known");
  const auto [fits, rows] =
      split_layer(bytes_.subspan(range.offset, range.bytes), shape_, entry(band).coding);
  if (!fits) throw std::logic_error("rows of a block that was not verified");
  return rows;
}

std::span<const std::byte> view::payload() const {
  if (!opaque_ || present_ == 0) return {};
  return bytes_.subspan(header_bytes_, payload_bytes_);
}

result<view> verify(std::span<const std::byte> bytes, const identity& expected) {
  auto parsed = view::parse(bytes);
  if (!parsed) return parsed;
  if (parsed->id() != expected)
    return fail(errc::stale, "block " + to_hex(expected.key) + " is no longer there: found " +
                                 to_hex(parsed->id().key) + ", generation " +
                                 std::to_string(parsed->id().generation) + "; locate it again");
  if (parsed->bands_present() == 0) return corrupt("no band was fetched");
  if (auto verified = parsed->verify_bands(); !verified) return tl::unexpected(verified.error());
  return parsed;
}

result<void> stamp(std::span<std::byte> bytes, std::uint64_t generation, std::uint64_t incarnation) {
  if (const auto parsed = view::parse(bytes); !parsed) return tl::unexpected(parsed.error());
  auto header = load_header(bytes);
  if (!header) return tl::unexpected(header.error());
  header->id.generation = generation;
  header->id.incarnation = incarnation;
  store_header(bytes, *header);
  seal_header(bytes, header->header_bytes);
  return {};
}

}  // namespace weft::block
