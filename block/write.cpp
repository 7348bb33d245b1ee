#include <weft/block/band_places.hpp>
#include <weft/block/layout.hpp>

#include "checksum.hpp"
#include "geometry.hpp"
#include "header.hpp"
#include "row_set.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace weft::block {

namespace {

tl::unexpected<error> refuse(std::string what) {
  return fail(errc::invalid_argument, "cannot write block: " + std::move(what));
}

std::span<const std::uint16_t> counts_of_layer(const shape& s, const band_rows& band, std::uint32_t layer) {
  return std::span{band.counts}.subspan(std::size_t{layer} * s.kv_heads, s.kv_heads);
}

std::uint64_t sum(std::span<const std::uint16_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

std::uint64_t band_bytes(const shape& s, const band_rows& band) {
  std::uint64_t bytes = 0;
  for (std::size_t first = 0; first < band.counts.size(); first += s.kv_heads) {
    const auto heads = std::min<std::size_t>(s.kv_heads, band.counts.size() - first);
    bytes += parts_of_layer(s, sum(std::span{band.counts}.subspan(first, heads)), band.coding).size_bytes();
  }
  return bytes;
}

result<void> check_band(const shape& s, const band_rows& band, std::size_t index) {
  const std::string name = "band " + std::to_string(index);
  if (!is_known(band.coding))
    return fail(errc::unsupported, "cannot write block: codec " +
                                       std::to_string(static_cast<int>(band.coding)) + " of " + name +
                                       " is none of raw, int8 and int4");
  if (band.counts.size() != std::size_t{s.layers} * s.kv_heads)
    return refuse(name + " needs one count per layer and KV head");
  if (band.positions.size() != sum(band.counts))
    return refuse(name + " needs as many positions as its counts say");
  if (std::isnan(band.min_score)) return refuse("min score of " + name + " is not a number");
  if (band_bytes(s, band) > max_band_bytes) return refuse(name + " is too large");
  return {};
}

result<void> check_rows(const shape& s, std::span<const band_rows> bands) {
  row_set claimed(s.kv_heads, s.tokens);
  std::vector<std::size_t> first_row(bands.size());
  for (std::uint32_t layer = 0; layer < s.layers; ++layer) {
    claimed.clear();
    for (std::size_t band = 0; band < bands.size(); ++band) {
      const auto counts = counts_of_layer(s, bands[band], layer);
      const std::uint64_t rows = sum(counts);
      if (!claimed.add(counts, std::span{bands[band].positions}.subspan(first_row[band], rows)))
        return refuse("positions of band " + std::to_string(band) + ", layer " + std::to_string(layer) +
                      " must ascend within a head, lie inside the block and be in one band only");
      first_row[band] += rows;
    }
  }
  return {};
}

// Writes from front to back.
class cursor {
 public:
  explicit cursor(std::span<std::byte> out) : out_(out) {}

  void put(const void* data, std::size_t bytes) {
    std::memcpy(out_.data() + used_, data, bytes);
    used_ += bytes;
  }
  // The next bytes, for someone else to fill.
  std::byte* take(std::size_t bytes) { return out_.data() + std::exchange(used_, used_ + bytes); }
  void fill_part() {
    const std::size_t end = round_up_to_part(used_);
    std::memset(out_.data() + used_, 0, end - used_);
    used_ = end;
  }
  std::size_t used() const { return used_; }

 private:
  std::span<std::byte> out_;
  std::size_t used_ = 0;
};

// Length of the run of consecutive positions that starts at the front.
std::size_t run_length(std::span<const std::uint16_t> positions) {
  std::size_t length = 1;
  while (length < positions.size() && positions[length] == positions[0] + length)
    ++length;
  return length;
}

// Copies or encodes the rows of one tensor (K or V) of one layer and head.
class row_gatherer {
 public:
  row_gatherer(const shape& s, const kv_source& source, codec coding)
      : shape_(s), source_(source), coding_(coding), element_(kernels::size_bytes(s.dtype)) {
    row_bytes_ = s.head_dim * element_;
    dense_ = source.token_stride == s.head_dim;
  }

  bool encodes() const { return coding_ != codec::raw; }
  std::size_t code_bytes(std::size_t rows) const {
    return rows * kernels::code_bytes(coding_, shape_.dtype, shape_.head_dim);
  }
  std::size_t scales(std::size_t rows) const {
    return rows * kernels::scales_per_row(coding_, shape_.head_dim);
  }

  void encode(const std::byte* tensor, std::uint32_t layer, std::uint32_t head,
              std::span<const std::uint16_t> positions, std::byte* codes, std::uint16_t* scales_out) const {
    kernels::encode_rows(coding_, shape_.dtype, first_row(tensor, layer, head), source_.token_stride,
                         positions, shape_.head_dim, codes, scales_out);
  }

  void gather(cursor& out, const std::byte* tensor, std::uint32_t layer, std::uint32_t head,
              std::span<const std::uint16_t> positions) const {
    const std::byte* rows = first_row(tensor, layer, head);
    while (!positions.empty()) {
      const std::size_t run = dense_ ? run_length(positions) : 1;
      out.put(rows + positions[0] * source_.token_stride * element_, run * row_bytes_);
      positions = positions.subspan(run);
    }
  }

 private:
  const std::byte* first_row(const std::byte* tensor, std::uint32_t layer, std::uint32_t head) const {
    return tensor + (layer * source_.layer_stride + head * source_.head_stride) * element_;
  }

  const shape& shape_;
  const kv_source& source_;
  codec coding_;
  std::size_t element_;
  std::size_t row_bytes_ = 0;
  bool dense_ = false;
};

// Codes first, scales behind them: both by head.
void write_encoded(cursor& out, const row_gatherer& rows, const std::byte* tensor, std::uint32_t layer,
                   std::span<const std::uint16_t> counts, std::span<const std::uint16_t> positions) {
  std::byte* codes = out.take(rows.code_bytes(positions.size()));
  out.fill_part();
  auto* scales =
      reinterpret_cast<std::uint16_t*>(out.take(rows.scales(positions.size()) * sizeof(std::uint16_t)));
  out.fill_part();
  for (std::uint32_t head = 0; head < counts.size(); ++head) {
    rows.encode(tensor, layer, head, positions.first(counts[head]), codes, scales);
    positions = positions.subspan(counts[head]);
    codes += rows.code_bytes(counts[head]);
    scales += rows.scales(counts[head]);
  }
}

void write_tensor(cursor& out, const row_gatherer& rows, const std::byte* tensor, std::uint32_t layer,
                  std::span<const std::uint16_t> counts, std::span<const std::uint16_t> positions) {
  if (rows.encodes()) return write_encoded(out, rows, tensor, layer, counts, positions);
  for (std::uint32_t head = 0; head < counts.size(); ++head) {
    rows.gather(out, tensor, layer, head, positions.first(counts[head]));
    positions = positions.subspan(counts[head]);
  }
  out.fill_part();
}

void write_band(std::span<std::byte> out, const shape& s, const band_rows& band, const kv_source& source) {
  cursor cursor{out};
  const row_gatherer rows(s, source, band.coding);
  std::span<const std::uint16_t> remaining{band.positions};
  for (std::uint32_t layer = 0; layer < s.layers; ++layer) {
    const auto counts = counts_of_layer(s, band, layer);
    const auto positions = remaining.first(sum(counts));
    remaining = remaining.subspan(positions.size());
    cursor.put(counts.data(), counts.size_bytes());
    if (!positions.empty()) cursor.put(positions.data(), positions.size_bytes());
    cursor.fill_part();
    write_tensor(cursor, rows, source.k, layer, counts, positions);
    write_tensor(cursor, rows, source.v, layer, counts, positions);
  }
}

layer_place place_of(const shape& s, const band_rows& band, std::uint32_t layer, std::size_t begin) {
  const layer_parts parts = parts_of_layer(s, sum(counts_of_layer(s, band, layer)), band.coding);
  layer_place place;
  place.index = begin;
  place.k = place.index + parts.index_bytes;
  place.k_scales = place.k + parts.codes_bytes;
  place.v = place.k_scales + parts.scales_bytes;
  place.v_scales = place.v + parts.codes_bytes;
  place.end = place.v_scales + parts.scales_bytes;
  return place;
}

void store_layer_starts(std::span<std::byte> out, std::size_t bands, std::size_t band,
                        const band_place& place) {
  const std::size_t table_bytes = place.layers.size() * layer_start_bytes;
  std::byte* to = out.data() + fixed_header_bytes + bands * band_entry_bytes + band * table_bytes;
  for (const layer_place& layer : place.layers) {
    const auto start = static_cast<std::uint32_t>((layer.index - place.range.offset) / part_alignment_bytes);
    std::memcpy(to, &start, sizeof start);
    to += sizeof start;
  }
}

}  // namespace

band_rows all_rows(const shape& s) {
  if (s.tokens > max_tokens) throw std::invalid_argument("a block has at most 65535 tokens");
  const std::size_t heads = std::size_t{s.layers} * s.kv_heads;
  band_rows band;
  band.counts.assign(heads, static_cast<std::uint16_t>(s.tokens));
  band.positions.resize(heads * s.tokens);
  for (std::size_t i = 0; i < band.positions.size(); ++i)
    band.positions[i] = static_cast<std::uint16_t>(i % s.tokens);
  return band;
}

std::size_t header_bytes(const shape& s, std::span<const band_rows> bands) {
  return header_region_bytes(static_cast<std::uint32_t>(bands.size()), s.layers);
}

std::size_t size_bytes(const shape& s, std::span<const band_rows> bands) {
  std::size_t bytes = header_bytes(s, bands);
  if (s.kv_heads == 0) return bytes;
  for (const band_rows& band : bands)
    bytes += band_bytes(s, band);
  return bytes;
}

result<void> check_place(std::span<const std::byte> out, const shape& s, std::span<const band_rows> bands) {
  if (!in_limits(s)) return refuse("its shape is outside the limits of the format");
  if (bands.empty() || bands.size() > max_bands)
    return refuse(std::to_string(bands.size()) + " bands; 1 to " + std::to_string(max_bands) +
                  " are possible");
  for (std::size_t i = 0; i < bands.size(); ++i)
    if (auto checked = check_band(s, bands[i], i); !checked) return checked;
  if (auto checked = check_rows(s, bands); !checked) return checked;
  if (out.size() != size_bytes(s, bands))
    return refuse("it takes " + std::to_string(size_bytes(s, bands)) + " bytes, not " +
                  std::to_string(out.size()));
  if (reinterpret_cast<std::uintptr_t>(out.data()) % part_alignment_bytes != 0)
    return refuse("its memory must be aligned to " + std::to_string(part_alignment_bytes) + " bytes");
  return {};
}

std::vector<band_place> places_of(const shape& s, std::span<const band_rows> bands) {
  std::vector<band_place> places;
  std::size_t offset = header_bytes(s, bands);
  for (const band_rows& band : bands) {
    band_place& place = places.emplace_back();
    place.range.offset = offset;
    for (std::uint32_t layer = 0; layer < s.layers; ++layer) {
      place.layers.push_back(place_of(s, band, layer, offset));
      offset = place.layers.back().end;
    }
    place.range.bytes = offset - place.range.offset;
  }
  return places;
}

void write_header(std::span<std::byte> out, const identity& id, const shape& s,
                  std::span<const band_rows> bands, std::span<const std::uint64_t> checksums) {
  const std::size_t own_bytes = header_bytes(s, bands);
  std::fill_n(out.begin(), own_bytes, std::byte{0});
  store_header(out, {.header_bytes = static_cast<std::uint32_t>(own_bytes),
                     .id = id,
                     .dimensions = s,
                     .kind = block_kind::rows,
                     .bands = static_cast<std::uint16_t>(bands.size())});
  const auto places = places_of(s, bands);
  for (std::uint32_t band = 0; band < bands.size(); ++band) {
    store_layer_starts(out, bands.size(), band, places[band]);
    store_band(out, band,
               {.offset = places[band].range.offset,
                .bytes = places[band].range.bytes,
                .checksum = checksums[band],
                .min_score = bands[band].min_score,
                .coding = bands[band].coding});
  }
  seal_header(out, own_bytes);
}

result<void> write(std::span<std::byte> out, const identity& id, const shape& s,
                   std::span<const band_rows> bands, const kv_source& source) {
  if (auto checked = check_place(out, s, bands); !checked) return checked;
  std::vector<std::uint64_t> checksums;
  std::size_t offset = header_bytes(s, bands);
  for (const band_rows& band : bands) {
    const auto bytes = out.subspan(offset, band_bytes(s, band));
    write_band(bytes, s, band, source);
    checksums.push_back(checksum_of(bytes));
    offset += bytes.size();
  }
  write_header(out, id, s, bands, checksums);
  return {};
}

std::size_t opaque_size_bytes(std::size_t payload_bytes) {
  return header_region_bytes(1, 0) + round_up_to_part(payload_bytes);
}

result<void> write_opaque(std::span<std::byte> out, const identity& id, std::span<const std::byte> payload,
                          std::uint64_t layout_tag) {
  const std::size_t needed_bytes = opaque_size_bytes(payload.size());
  if (out.size() != needed_bytes)
    return refuse("it takes " + std::to_string(needed_bytes) + " bytes, not " + std::to_string(out.size()));
  const std::uint64_t header_bytes = header_region_bytes(1, 0);
  std::fill_n(out.begin(), header_bytes, std::byte{0});
  store_header(out, {.header_bytes = static_cast<std::uint32_t>(header_bytes),
                     .id = id,
                     .layout_tag = layout_tag,
                     .payload_bytes = payload.size(),
                     .kind = block_kind::opaque,
                     .bands = 1});
  const auto band = out.subspan(header_bytes);
  std::copy(payload.begin(), payload.end(), band.begin());
  std::fill(band.begin() + static_cast<std::ptrdiff_t>(payload.size()), band.end(), std::byte{0});
  store_band(out, 0, {.offset = header_bytes, .bytes = band.size(), .checksum = checksum_of(band)});
  seal_header(out, header_bytes);
  return {};
}

}  // namespace weft::block
