// The bytes of a KV block: header, band table, bands (docs/block-format.md specifies every byte).
//
// A block holds `tokens` consecutive tokens x all layers x the KV heads of one shard. Its rows are cut into
// bands; bands 0..k-1 are one contiguous range [0, end_of_band(k-1)) and a valid cache at a smaller budget.
// Per band and layer: count[kv_head] u16, position[row] u16 (within the block), K rows by head, V rows by
// head, in the band's codec.
//
// An opaque block holds the payload of an engine that brings its own KV, or a manifest: one band, no rows.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/row_codec.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

inline constexpr std::size_t part_alignment_bytes = 64;
inline constexpr std::size_t block_alignment_bytes = 4096;
inline constexpr std::uint32_t max_bands = 16;

using codec = kernels::row_codec;

struct shape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t tokens = 0;
  kernels::dtype dtype = kernels::dtype::bf16;

  friend bool operator==(const shape&, const shape&) = default;
};

struct identity {
  id128 key;
  id128 fingerprint;  // of the model
  // Stamped by the storage node that owns the copy; zero in a block that no node holds yet.
  std::uint64_t generation = 0;
  std::uint64_t incarnation = 0;

  friend bool operator==(const identity&, const identity&) = default;
};

// Which rows one band holds.
struct band_rows {
  std::vector<std::uint16_t> counts;     // [layer][kv_head]
  std::vector<std::uint16_t> positions;  // by layer, head, row; ascending within a head
  codec coding = codec::raw;
  float min_score = 0;
};

// Everything in one band: the layout of a block that was not scored. At most 65535 tokens.
band_rows all_rows(const shape& s);

// Where the rows come from: K before RoPE and V, element (layer, head, token, d) at
// base + layer * layer_stride + head * head_stride + token * token_stride + d, strides in elements of
// shape.dtype.
struct kv_source {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  std::size_t layer_stride = 0;
  std::size_t head_stride = 0;
  std::size_t token_stride = 0;
};

// Bytes of a block with these bands, a multiple of `part_alignment_bytes`. Bands that `write` would refuse
// have some size too.
std::size_t size_bytes(const shape& s, std::span<const band_rows> bands);

// Writes a whole block, checksums included. `out.size() == size_bytes(...)`, aligned to
// `part_alignment_bytes`. No (layer, head, position) is in two bands, else `invalid_argument`. Rows of bands
// that are not raw are encoded here; codecs that there are not are refused (`errc::unsupported`).
result<void> write(std::span<std::byte> out, const identity& id, const shape& s,
                   std::span<const band_rows> bands, const kv_source& source);

// Bytes of an opaque block with this payload, a multiple of `part_alignment_bytes`.
std::size_t opaque_size_bytes(std::size_t payload_bytes);

// Writes a whole opaque block. `out.size() == opaque_size_bytes(payload.size())`. `layout_tag` says what the
// payload means; weft does not look at it.
result<void> write_opaque(std::span<std::byte> out, const identity& id, std::span<const std::byte> payload,
                          std::uint64_t layout_tag);

// The rows of one layer of one band, pointing into the block.
struct band_layer {
  const std::uint16_t* counts = nullptr;     // [kv_head]
  const std::uint16_t* positions = nullptr;  // [rows]
  const std::byte* k = nullptr;              // [rows], before RoPE: elements, or codes of `coding`
  const std::byte* v = nullptr;
  std::uint32_t rows = 0;  // sum of counts
  codec coding = codec::raw;
  const std::uint16_t* k_scales = nullptr;  // [rows][scales_per_row], of a band that is not raw
  const std::uint16_t* v_scales = nullptr;
};

// A piece of a block, from its first byte.
struct byte_range {
  std::size_t offset = 0;
  std::size_t bytes = 0;

  friend bool operator==(const byte_range&, const byte_range&) = default;
};

class row_set;

// A parsed block. Refers to the bytes it was made from, must not outlive them, and they must not change but
// for `keep_index`.
class view {
 public:
  // Checks magic, version, header checksum and all tables; `bytes` must end behind the header region or
  // behind any whole band (a reader that fetched k bands). Band payloads are not read: see `verify_bands`.
  // `corrupt`, or `unsupported` for another layout version; `invalid_argument` when `bytes` does not start
  // at a multiple of 8.
  static result<view> parse(std::span<const std::byte> bytes);
  // The same into this view, whose memory is used again. After an error it is of no use but for another
  // block.
  result<void> read(std::span<const std::byte> bytes);

  std::span<const std::byte> bytes() const { return bytes_; }  // that it was made from
  const identity& id() const { return id_; }
  const shape& dimensions() const { return shape_; }  // all zero for an opaque block
  std::size_t header_bytes() const { return header_bytes_; }
  std::uint32_t band_count() const {
    return static_cast<std::uint32_t>(bands_.size());
  }                                                         // of the whole block
  std::uint32_t bands_present() const { return present_; }  // whole bands inside `bytes`

  // `band` < band_count(), present or not; else std::out_of_range.
  std::size_t end_of_band(std::uint32_t band) const;
  byte_range range_of_band(std::uint32_t band) const;
  std::uint64_t checksum_of_band(std::uint32_t band) const;
  float min_score(std::uint32_t band) const;
  codec coding(std::uint32_t band) const;
  // Where one layer of a band lies, present or not: one range to fetch. Not for opaque blocks.
  byte_range range_of_layer(std::uint32_t band, std::uint32_t layer) const;

  // Recomputes the checksum of every present band and checks counts and positions against the shape, so that
  // what passed can be scattered without further checks: no row twice, none outside the block. `unsupported`
  // when a present band has a codec that there is not.
  result<void> verify_bands() const;

  // Of that only the codecs, counts and positions: for who has proven the checksums already.
  result<void> verify_rows() const;
  // With a set that is used again from block to block.
  result<void> verify_rows(row_set& claimed) const;
  // Those of one layer, while the other layers' bytes may still be on their way: then its rows can be read
  // safely, though nothing proves them.
  result<void> verify_layer(std::uint32_t layer) const;

  // For bytes that others may overwrite while they are read: checks counts and positions of the present bands
  // in a copy, which `layer` refers to from now on. Whatever becomes of the bytes then, rows lie inside the
  // block and belong inside the document; only what K and V say is left to them.
  result<void> keep_index();

  // Of a present band that was verified; std::out_of_range or std::logic_error for anything else.
  band_layer layer(std::uint32_t band, std::uint32_t layer) const;

  bool is_opaque() const { return opaque_; }
  std::uint64_t layout_tag() const { return layout_tag_; }
  // Of an opaque block; empty when its band is not present.
  std::span<const std::byte> payload() const;

 private:
  struct band_entry {
    std::uint64_t offset = 0, bytes = 0, checksum = 0;
    codec coding = codec::raw;
    float min_score = 0;
  };

  result<void> read_bands(std::size_t count);
  result<void> read_layer_starts(std::size_t table_offset);
  std::span<std::uint32_t> layer_starts(std::size_t band);
  result<void> count_present();
  result<void> verify_checksum(std::uint32_t band) const;
  result<void> verify_codec(std::uint32_t band) const;
  result<void> verify_rows(std::uint32_t layer, row_set& claimed) const;
  result<void> keep_index(std::uint32_t band, std::uint32_t layer, row_set& claimed);
  band_layer kept_layer(std::uint32_t band, std::uint32_t layer, const byte_range& range) const;
  const band_entry& entry(std::uint32_t band) const;

  std::span<const std::byte> bytes_;
  identity id_;
  shape shape_;
  std::size_t header_bytes_ = 0;
  std::uint64_t layout_tag_ = 0;
  std::uint64_t payload_bytes_ = 0;
  bool opaque_ = false;
  std::vector<band_entry> bands_;
  std::vector<std::uint32_t> layer_starts_;  // by [band][layer] and the band's end, in part_alignment_bytes
  std::uint32_t present_ = 0;
  std::vector<std::uint16_t> index_;       // kept: counts and positions, band by band, layer by layer
  std::vector<std::size_t> index_starts_;  // in it, by [band][layer]; empty: not kept
};

// What a reader demands of a fetched block: `corrupt` when bytes do not prove themselves, `stale` when they
// prove to be another key, generation, incarnation or model. At least one band is present in what passed.
// The shape is not compared: a reader checks `dimensions()` against its cache.
result<view> verify(std::span<const std::byte> bytes, const identity& expected);

// Puts the owner's generation and incarnation into the header and renews its checksum. `bytes` must parse.
result<void> stamp(std::span<std::byte> bytes, std::uint64_t generation, std::uint64_t incarnation);

}  // namespace weft::block
