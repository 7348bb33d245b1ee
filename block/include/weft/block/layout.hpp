// The bytes of a KV block: header, band table, bands (docs/block-format.md specifies every byte).
//
// A block holds `tokens` consecutive tokens x all layers x the KV heads of one shard. Its rows are cut into
// bands; bands 0..k-1 are one contiguous range [0, end_of_band(k-1)) and a valid cache at a smaller budget.
// Per band and layer: count[kv_head] u16, position[row] u16 (within the block), K rows by head, V rows by
// head.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::block {

inline constexpr std::size_t part_alignment_bytes = 64;
inline constexpr std::size_t block_alignment_bytes = 4096;
inline constexpr std::uint32_t max_bands = 16;

enum class codec : std::uint8_t { raw = 0, int8 = 1, int4 = 2 };

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

// Everything in one band: the layout of a block that was not scored.
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

// Bytes of a block with these bands, a multiple of `part_alignment_bytes`.
std::size_t size_bytes(const shape& s, std::span<const band_rows> bands);

// Writes a whole block, checksums included. `out.size() == size_bytes(...)`, aligned to
// `part_alignment_bytes`. Codecs other than raw are refused (`errc::unsupported`).
result<void> write(std::span<std::byte> out, const identity& id, const shape& s,
                   std::span<const band_rows> bands, const kv_source& source);

// The rows of one layer of one band, pointing into the block.
struct band_layer {
  const std::uint16_t* counts = nullptr;     // [kv_head]
  const std::uint16_t* positions = nullptr;  // [sum of counts]
  const std::byte* k = nullptr;              // [sum of counts][head_dim], before RoPE
  const std::byte* v = nullptr;
};

// A parsed block. Refers to the bytes it was made from and must not outlive them.
class view {
 public:
  // Checks magic, version, header checksum and that every offset lies inside `bytes`; `bytes` may end behind
  // any whole band (a reader that fetched k bands). Band payloads are not read: see `verify_bands`.
  static result<view> parse(std::span<const std::byte> bytes);

  const identity& id() const { return id_; }
  const shape& dimensions() const { return shape_; }
  std::uint32_t band_count() const;     // of the whole block
  std::uint32_t bands_present() const;  // whole bands inside `bytes`
  std::size_t end_of_band(std::uint32_t band) const;
  float min_score(std::uint32_t band) const;

  // Recomputes the checksum of every present band and checks counts and positions against the shape, so that
  // what passed can be scattered without further checks.
  result<void> verify_bands() const;

  band_layer layer(std::uint32_t band, std::uint32_t layer) const;

 private:
  struct band_entry {
    std::uint64_t offset, bytes, checksum;
    codec coding;
    float min_score;
  };
  std::span<const std::byte> bytes_;
  identity id_;
  shape shape_;
  std::vector<band_entry> bands_;
  std::uint32_t present_ = 0;
};

// What a reader demands of a fetched block: `corrupt` when bytes do not prove themselves, `stale` when they
// prove to be another key, generation, incarnation or model.
result<view> verify(std::span<const std::byte> bytes, const identity& expected);

// Puts the owner's generation and incarnation into the header and renews its checksum. `bytes` must parse.
result<void> stamp(std::span<std::byte> bytes, std::uint64_t generation, std::uint64_t incarnation);

}  // namespace weft::block
