#include <weft/actors/sparse_parts.hpp>
#include <weft/block/proven_layer.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string>

namespace weft::actors {

namespace retrieval = policies::retrieval;

namespace {

static_assert(std::endian::native == std::endian::little, "integers are written as they lie in memory");

constexpr std::uint32_t version = 2;
constexpr std::uint32_t most_layers = 1024;  // those of a block
constexpr std::uint32_t most_heads = 1024;
constexpr std::uint32_t most_head_dim = 4096;
constexpr std::uint32_t most_blocks = 1U << 21;

void append_reduced(const sparse_index& index, std::span<const float> keys, std::uint32_t layer,
                    std::uint32_t kv_head, std::vector<std::byte>& out) {
  std::vector<float> merged(std::size_t{index.merged()} * index.channels);
  retrieval::merge_tokens(keys, index.head_dim, index.channels_of(layer, kv_head), index.token_merge, merged);
  const std::size_t at = out.size();
  out.resize(at + merged.size() * kernels::size_bytes(index.type));
  kernels::from_f32(index.type, merged.data(), out.data() + at, merged.size());
}

tl::unexpected<error> corrupt(const char* what) {
  return fail(errc::corrupt, std::string{"a document's index for sparse decoding is damaged ("} + what +
                                 "); ingest the document again");
}

bool between(std::uint32_t value, std::uint32_t least, std::uint32_t most) {
  return value >= least && value <= most;
}

bool in_limits(const sparse_index& index) {
  return between(index.layers, 1, most_layers) && between(index.kv_heads, 1, most_heads) &&
         between(index.head_dim, 2, most_head_dim) && index.head_dim % 2 == 0 &&
         between(index.block_tokens, 1, 65535) && index.blocks <= most_blocks &&
         between(index.bands, 1, block::max_bands) && between(index.channels, 2, index.head_dim) &&
         index.channels % 2 == 0 && between(index.token_merge, 1, index.block_tokens) &&
         index.type <= kernels::dtype::bf16;
}

// u16 of the index, up to a multiple of 8 bytes.
std::size_t small_bytes(std::uint64_t entries) {
  return (2 * entries + 7) / 8 * 8;
}

void read_key(const block::shape& shape, const block::band_layer& rows, std::size_t row, float* out) {
  const std::byte* const key = rows.k + row * kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
  if (rows.coding == block::codec::raw) return kernels::to_f32(shape.dtype, key, out, shape.head_dim);
  kernels::decode_rows(rows.coding, key,
                       rows.k_scales + row * kernels::scales_per_row(rows.coding, shape.head_dim), 1,
                       shape.head_dim, kernels::dtype::f32, reinterpret_cast<std::byte*>(out));
}

bool fits_blocks(const sparse_index& index) {
  for (std::uint32_t block = 0; block < index.blocks; ++block)
    for (std::uint32_t layer = 0; layer < index.layers; ++layer)
      for (std::uint32_t head = 0; head < index.kv_heads; ++head)
        if (index.rows_of(block, layer, head, index.bands) > index.block_tokens) return false;
  return true;
}

}  // namespace

sparse_index describe_sparse(const engine::encoded_document& document, std::uint32_t block_tokens) {
  const engine::kv_shape& shape = document.shape();
  sparse_index index{.layers = shape.layers,
                     .kv_heads = shape.kv_heads,
                     .head_dim = shape.head_dim,
                     .block_tokens = block_tokens,
                     .blocks = document.tokens() / block_tokens,
                     .bands = 1,
                     .channels = retrieval::kept_channels(shape.head_dim, reduced_dim_ratio),
                     .token_merge = std::min(reduced_token_merge, block_tokens),
                     .type = shape.dtype,
                     .kept = {},
                     .checksums = {},
                     .rows = {}};
  std::vector<float> keys(std::size_t{document.tokens()} * shape.head_dim);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const auto* from = document.k() + layer * document.layer_bytes() + head * document.head_bytes();
      kernels::to_f32(shape.dtype, from, keys.data(), keys.size());
      const auto chosen = retrieval::choose_channels(keys, shape.head_dim, index.channels);
      index.kept.insert(index.kept.end(), chosen.begin(), chosen.end());
    }
  return index;
}

result<void> add_block(sparse_index& index, std::span<const std::byte> bytes) {
  const auto parsed = block::view::parse(bytes);
  if (!parsed) return tl::make_unexpected(parsed.error());
  if (index.checksums.empty()) index.bands = parsed->band_count();
  if (parsed->band_count() != index.bands)
    return fail(errc::invalid_argument, "the blocks of a document differ in their number of bands");
  for (std::uint32_t layer = 0; layer < index.layers; ++layer)
    for (std::uint32_t band = 0; band < index.bands; ++band) {
      const auto range = parsed->range_of_layer(band, layer);
      index.checksums.push_back(block::layer_checksum(bytes.subspan(range.offset, range.bytes)));
      const auto* counts = parsed->layer(band, layer).counts;
      index.rows.insert(index.rows.end(), counts, counts + index.kv_heads);
    }
  return {};
}

std::vector<std::byte> reduced_keys(const sparse_index& index, const engine::encoded_document& document,
                                    std::uint32_t number) {
  std::vector<std::byte> out;
  out.reserve(index.reduced_bytes());
  std::vector<float> keys(std::size_t{index.block_tokens} * index.head_dim);
  for (std::uint32_t layer = 0; layer < index.layers; ++layer)
    for (std::uint32_t head = 0; head < index.kv_heads; ++head) {
      const auto* from = document.k() + layer * document.layer_bytes() + head * document.head_bytes() +
                         std::size_t{number} * index.block_tokens * document.row_bytes();
      kernels::to_f32(index.type, from, keys.data(), keys.size());
      append_reduced(index, keys, layer, head, out);
    }
  return out;
}

bool keys_of(const block::view& block, std::uint32_t layer, std::uint32_t kv_head, std::span<float> out) {
  const block::shape& shape = block.dimensions();
  std::uint32_t found = 0;
  for (std::uint32_t band = 0; band < block.bands_present(); ++band) {
    const auto rows = block.layer(band, layer);
    std::uint32_t first = 0;
    for (std::uint32_t head = 0; head < kv_head; ++head)
      first += rows.counts[head];
    for (std::uint32_t row = first; row < first + rows.counts[kv_head]; ++row, ++found)
      read_key(shape, rows, row, out.data() + std::size_t{rows.positions[row]} * shape.head_dim);
  }
  return found == shape.tokens;
}

result<std::vector<std::byte>> reduced_keys(const sparse_index& index, const block::view& block) {
  const block::shape& shape = block.dimensions();
  if (shape.layers != index.layers || shape.kv_heads != index.kv_heads || shape.head_dim != index.head_dim ||
      shape.tokens != index.block_tokens)
    return fail(errc::corrupt, "a block has another shape than its document's index for sparse decoding");
  std::vector<std::byte> out;
  out.reserve(index.reduced_bytes());
  std::vector<float> keys(std::size_t{index.block_tokens} * index.head_dim);
  for (std::uint32_t layer = 0; layer < index.layers; ++layer)
    for (std::uint32_t head = 0; head < index.kv_heads; ++head) {
      if (!keys_of(block, layer, head, keys))
        return fail(errc::corrupt, "a block does not hold all of its rows; sparse decoding needs them");
      append_reduced(index, keys, layer, head, out);
    }
  return out;
}

std::vector<std::byte> to_bytes(const sparse_index& index) {
  const std::array<std::uint32_t, 10> numbers{
      version,      index.layers, index.kv_heads, index.head_dim,    index.block_tokens,
      index.blocks, index.bands,  index.channels, index.token_merge, static_cast<std::uint32_t>(index.type)};
  const std::size_t kept = small_bytes(index.kept.size());
  const std::size_t sums = index.checksums.size() * sizeof(std::uint64_t);
  std::vector<std::byte> bytes(sizeof numbers + kept + sums + small_bytes(index.rows.size()));
  std::memcpy(bytes.data(), numbers.data(), sizeof numbers);
  std::byte* to = bytes.data() + sizeof numbers;
  for (const std::uint32_t channel : index.kept) {
    const auto small = static_cast<std::uint16_t>(channel);
    std::memcpy(to, &small, sizeof small);
    to += sizeof small;
  }
  if (index.checksums.empty()) return bytes;
  std::memcpy(bytes.data() + sizeof numbers + kept, index.checksums.data(), sums);
  std::memcpy(bytes.data() + sizeof numbers + kept + sums, index.rows.data(),
              index.rows.size() * sizeof(std::uint16_t));
  return bytes;
}

result<sparse_index> sparse_index_from_bytes(std::span<const std::byte> bytes) {
  std::array<std::uint32_t, 10> numbers{};
  if (bytes.size() < sizeof numbers) return corrupt("too short");
  std::memcpy(numbers.data(), bytes.data(), sizeof numbers);
  if (numbers[0] != version) return corrupt("unknown version");
  sparse_index index{.layers = numbers[1],
                     .kv_heads = numbers[2],
                     .head_dim = numbers[3],
                     .block_tokens = numbers[4],
                     .blocks = numbers[5],
                     .bands = numbers[6],
                     .channels = numbers[7],
                     .token_merge = numbers[8],
                     .type = static_cast<kernels::dtype>(std::min(numbers[9], 0xffU)),
                     .kept = {},
                     .checksums = {},
                     .rows = {}};
  if (!in_limits(index)) return corrupt("a number out of range");
  const std::uint64_t entries = std::uint64_t{index.layers} * index.kv_heads * index.channels;
  const std::uint64_t sums = std::uint64_t{index.blocks} * index.layers * index.bands;
  const std::uint64_t counts = sums * index.kv_heads;
  const std::size_t kept = small_bytes(entries);
  if (bytes.size() != sizeof numbers + kept + sums * sizeof(std::uint64_t) + small_bytes(counts))
    return corrupt("its length");
  index.kept.resize(entries);
  for (std::size_t i = 0; i < entries; ++i) {
    std::uint16_t small = 0;
    std::memcpy(&small, bytes.data() + sizeof numbers + i * sizeof small, sizeof small);
    if (small >= index.head_dim) return corrupt("a channel out of range");
    index.kept[i] = small;
  }
  index.checksums.resize(sums);
  index.rows.resize(counts);
  if (sums == 0) return index;
  const auto* from = bytes.data() + sizeof numbers + kept;
  std::memcpy(index.checksums.data(), from, sums * sizeof(std::uint64_t));
  std::memcpy(index.rows.data(), from + sums * sizeof(std::uint64_t), counts * sizeof(std::uint16_t));
  if (!fits_blocks(index)) return corrupt("more rows than a block has tokens");
  return index;
}

}  // namespace weft::actors
