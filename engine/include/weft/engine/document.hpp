// A document's K and V as a function of its tokens alone: computed at positions from 0 on, in a segment of
// its own, keys before RoPE. What the pool stores.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/kernels/aligned_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::engine {

class device_document;

class encoded_document {
 public:
  encoded_document(const kv_shape& shape, std::uint32_t tokens);
  // Of this model, which is to compute it: where that runs on a device, its rows stay there, too, if there is
  // room.
  encoded_document(const runner& model, std::uint32_t tokens);

  const kv_shape& shape() const { return shape_; }
  std::uint32_t tokens() const { return tokens_; }
  std::size_t allocated_bytes() const { return memory_.size_bytes(); }

  // [layer][kv_head][token][head_dim] in the cache dtype.
  std::byte* k() { return memory_.data(); }
  const std::byte* k() const { return memory_.data(); }
  std::byte* v() { return memory_.data() + memory_.size_bytes() / 2; }
  const std::byte* v() const { return memory_.data() + memory_.size_bytes() / 2; }
  std::size_t row_bytes() const;
  std::size_t head_bytes() const { return tokens_ * row_bytes(); }
  std::size_t layer_bytes() const { return shape_.kv_heads * head_bytes(); }

  // Blocks are cut from the first token on; the last one may be shorter.
  std::uint32_t blocks(std::uint32_t block_tokens) const;
  block::shape block_shape(std::uint32_t block, std::uint32_t block_tokens) const;
  // The device that computed the rows, and the rows there; null where there are none.
  const compute_device* computed_on() const { return device_.get(); }
  device_document* there() const { return there_.get(); }

  // Refers to this document's memory.
  block::kv_source block_source(std::uint32_t block, std::uint32_t block_tokens) const;

 private:
  kv_shape shape_;
  std::uint32_t tokens_;
  kernels::aligned_buffer memory_;
  std::shared_ptr<const compute_device> device_;
  std::shared_ptr<device_document> there_;
};

// Writes what a forward pass over a document's tokens computes into `document`, which must outlive it.
std::unique_ptr<forward_observer> document_observer(encoded_document& document);

// `invalid_argument` for a document without tokens or longer than the model's context.
result<void> check_document(const runner& model, std::span<const token_id> tokens);
result<encoded_document> encode_document(runner& model, std::span<const token_id> tokens);

}  // namespace weft::engine
