#include <weft/actors/document_keys.hpp>
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

constexpr std::uint32_t version = 1;
constexpr std::size_t numbers_bytes = 8 * sizeof(std::uint32_t);

tl::unexpected<error> corrupt(const char* what) {
  return fail(errc::corrupt, std::string{"what a document is ranked by is damaged ("} + what +
                                 "); ingest the document again");
}

std::size_t kept_bytes(const retrieval::document_keys_shape& shape) {
  return (std::size_t{2} * shape.kv_heads * shape.channels + 7) / 8 * 8;
}

std::size_t head_bytes(const retrieval::document_keys_shape& shape) {
  return std::size_t{shape.vectors} * shape.channels * kernels::size_bytes(shape.type);
}

std::uint32_t merge_for(const engine::encoded_document& document, std::uint32_t channels,
                        std::uint32_t token_merge) {
  const auto& shape = document.shape();
  const std::size_t token_bytes = std::size_t{shape.kv_heads} * channels * kernels::size_bytes(shape.dtype);
  const std::size_t most = std::max<std::size_t>(1, most_document_keys_bytes / token_bytes);
  return std::max(token_merge, static_cast<std::uint32_t>((document.tokens() + most - 1) / most));
}

bool in_limits(const retrieval::document_keys_shape& shape) {
  return shape.kv_heads >= 1 && shape.kv_heads <= 1024 && shape.head_dim >= 2 && shape.head_dim <= 4096 &&
         shape.head_dim % 2 == 0 && shape.channels >= 2 && shape.channels <= shape.head_dim &&
         shape.vectors >= 1 && shape.type <= kernels::dtype::bf16;
}

}  // namespace

std::vector<std::byte> document_keys_bytes(const engine::encoded_document& document) {
  const retrieval::document_ranking how;
  const auto& from = document.shape();
  const std::uint32_t layer = retrieval::ranking_layer(how, from.layers);
  const std::uint32_t channels = retrieval::kept_channels(from.head_dim, how.dim_ratio);
  const std::uint32_t merge = merge_for(document, channels, how.token_merge);
  const retrieval::document_keys_shape shape{.kv_heads = from.kv_heads,
                                             .head_dim = from.head_dim,
                                             .vectors = retrieval::merged_vectors(document.tokens(), merge),
                                             .channels = channels,
                                             .type = from.dtype};
  const std::array<std::uint32_t, 8> numbers{
      version,       layer,          shape.kv_heads, shape.head_dim,
      shape.vectors, shape.channels, merge,          static_cast<std::uint32_t>(shape.type)};
  std::vector<std::byte> bytes(numbers_bytes + kept_bytes(shape) + shape.kv_heads * head_bytes(shape));
  std::memcpy(bytes.data(), numbers.data(), numbers_bytes);
  std::byte* kept = bytes.data() + numbers_bytes;
  std::byte* values = kept + kept_bytes(shape);
  std::vector<float> keys(std::size_t{document.tokens()} * from.head_dim);
  for (std::uint32_t head = 0; head < from.kv_heads; ++head) {
    kernels::to_f32(from.dtype, document.k() + layer * document.layer_bytes() + head * document.head_bytes(),
                    keys.data(), keys.size());
    const auto reduced = retrieval::reduce_head(keys, from.head_dim, channels, merge);
    for (const std::uint32_t channel : reduced.channels) {
      const auto small = static_cast<std::uint16_t>(channel);
      std::memcpy(kept, &small, sizeof small);
      kept += sizeof small;
    }
    kernels::from_f32(shape.type, reduced.vectors.data(), values, reduced.vectors.size());
    values += head_bytes(shape);
  }
  return bytes;
}

result<stored_document_keys> document_keys_from_bytes(std::span<const std::byte> bytes) {
  std::array<std::uint32_t, 8> numbers{};
  if (bytes.size() < numbers_bytes) return corrupt("too short");
  std::memcpy(numbers.data(), bytes.data(), numbers_bytes);
  if (numbers[0] != version) return corrupt("unknown version");
  const retrieval::document_keys_shape shape{
      .kv_heads = numbers[2],
      .head_dim = numbers[3],
      .vectors = numbers[4],
      .channels = numbers[5],
      .type = static_cast<kernels::dtype>(std::min(numbers[7], 0xffU))};
  if (!in_limits(shape)) return corrupt("a number out of range");
  // Each factor is bounded by the length that is compared, so the products do not overflow.
  if (shape.vectors > bytes.size() ||
      bytes.size() != numbers_bytes + kept_bytes(shape) + shape.kv_heads * head_bytes(shape))
    return corrupt("its length");
  stored_document_keys found{.layer = numbers[1], .keys = retrieval::document_keys(shape)};
  const std::byte* kept = bytes.data() + numbers_bytes;
  const std::byte* values = kept + kept_bytes(shape);
  std::vector<float> vectors(std::size_t{shape.vectors} * shape.channels);
  std::vector<std::uint32_t> channels(shape.channels);
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    for (std::uint32_t& channel : channels) {
      std::uint16_t small = 0;
      std::memcpy(&small, kept, sizeof small);
      kept += sizeof small;
      if (small >= shape.head_dim) return corrupt("a channel out of range");
      channel = small;
    }
    kernels::to_f32(shape.type, values, vectors.data(), vectors.size());
    values += head_bytes(shape);
    found.keys.set(head, channels, vectors);
  }
  return found;
}

}  // namespace weft::actors
