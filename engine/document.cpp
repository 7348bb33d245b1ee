#include <weft/engine/document.hpp>

#include "device/device_document.hpp"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace weft::engine {

namespace {

// Puts the rows of a pass, [row][kv_head], where they belong in a document, [kv_head][token].
class document_writer final : public forward_observer {
 public:
  explicit document_writer(encoded_document& document) : document_(document) {}

  shown_parts sees(std::uint32_t) const override { return {.kv = true}; }

  void layer_kv(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                const std::byte* v) override {
    const std::size_t at = layer * document_.layer_bytes() + first_row * document_.row_bytes();
    copy(document_.k() + at, k, rows);
    copy(document_.v() + at, v, rows);
  }
  void layer_kv_there(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                      const std::byte* v, device::stream& behind) override {
    if (auto* const there = document_.there()) there->take(layer, first_row, rows, k, v, behind);
  }

 private:
  void copy(std::byte* out, const std::byte* in, std::uint32_t rows) const {
    const std::size_t row_bytes = document_.row_bytes();
    const std::uint32_t heads = document_.shape().kv_heads;
    for (std::uint32_t head = 0; head < heads; ++head)
      for (std::uint32_t row = 0; row < rows; ++row)
        std::memcpy(out + head * document_.head_bytes() + row * row_bytes,
                    in + (std::size_t{row} * heads + head) * row_bytes, row_bytes);
  }

  encoded_document& document_;
};

}  // namespace

encoded_document::encoded_document(const kv_shape& shape, std::uint32_t tokens)
    : shape_(shape), tokens_(tokens), memory_(std::size_t{2} * shape.layers * layer_bytes()) {}

encoded_document::encoded_document(const runner& model, std::uint32_t tokens)
    : encoded_document(model.cache_shape(), tokens) {
  device_ = model.device();
  if (!device_) return;
  if (auto made = device_document::make(device_, shape_, tokens)) there_ = std::move(*made);
}

std::size_t encoded_document::row_bytes() const {
  return shape_.head_dim * kernels::size_bytes(shape_.dtype);
}

std::uint32_t encoded_document::blocks(std::uint32_t block_tokens) const {
  return (tokens_ + block_tokens - 1) / block_tokens;
}

block::shape encoded_document::block_shape(std::uint32_t block, std::uint32_t block_tokens) const {
  return {.layers = shape_.layers,
          .kv_heads = shape_.kv_heads,
          .head_dim = shape_.head_dim,
          .tokens = std::min(block_tokens, tokens_ - block * block_tokens),
          .dtype = shape_.dtype};
}

block::kv_source encoded_document::block_source(std::uint32_t block, std::uint32_t block_tokens) const {
  const std::size_t first_row = std::size_t{block} * block_tokens * row_bytes();
  return {.k = k() + first_row,
          .v = v() + first_row,
          .layer_stride = std::size_t{shape_.kv_heads} * tokens_ * shape_.head_dim,
          .head_stride = std::size_t{tokens_} * shape_.head_dim,
          .token_stride = shape_.head_dim};
}

std::unique_ptr<forward_observer> document_observer(encoded_document& document) {
  return std::make_unique<document_writer>(document);
}

result<void> check_document(const runner& model, std::span<const token_id> tokens) {
  if (tokens.empty())
    return fail(errc::invalid_argument, "the document has no tokens; there is nothing to encode");
  if (tokens.size() > model.config().max_context_tokens)
    return fail(errc::invalid_argument,
                "the document has " + std::to_string(tokens.size()) + " tokens and the model's context " +
                    std::to_string(model.config().max_context_tokens) + "; cut it into several documents");
  return {};
}

result<encoded_document> encode_document(runner& model, std::span<const token_id> tokens) {
  if (auto checked = check_document(model, tokens); !checked) return tl::unexpected(checked.error());
  const auto count = static_cast<std::uint32_t>(tokens.size());
  encoded_document document(model, count);
  kv_cache cache(model.cache_shape(), count);
  row_batch rows;
  for (std::uint32_t i = 0; i < count; ++i)
    rows.add(tokens[i], static_cast<std::int32_t>(i), 1);
  document_writer writer(document);
  kv_cache* const caches[] = {&cache};
  if (auto computed = model.forward(rows, caches, {}, &writer); !computed)
    return tl::unexpected(computed.error());
  return document;
}

}  // namespace weft::engine
