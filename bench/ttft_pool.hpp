// Documents in the memory of another process, and how they come from there.
#pragma once

#include <weft/block/layer_verifier.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/fabric/transport.hpp>

#include "block_owner.hpp"

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

namespace weft::bench {

inline constexpr std::uint32_t block_tokens = 64;

// Of whole blocks of a cache of this shape.
block::shape block_shape_of(const engine::kv_shape& shape);
// What holds documents of so many tokens.
std::size_t arena_bytes_for(const engine::model_config& config, std::uint32_t tokens);

// Blocks of one shape that stand `stride_bytes` apart in the owner's arena and come to the same place here.
class remote_blocks {
 public:
  static result<remote_blocks> connect(block_owner& owner, std::size_t arena_bytes);

  const std::string& transport() const { return owner_->transport(); }
  std::span<std::byte> arena() const { return node_->arena(); }

  result<void> fill(const block::shape& shape, std::size_t count);
  // Puts what was filled in on file, too.
  result<void> store(const std::filesystem::path& folder);
  // Whether the owner takes what is fetched from file first, past the page cache.
  void read_from_file(bool wanted) { from_file_ = wanted; }

  std::span<std::byte> place(std::size_t index) const;
  // All blocks, fetched and proven.
  result<std::vector<block::view>> fetch();

  // Blocks that come layer by layer. Their headers are here when it returns, and say what they should.
  class layers;
  result<std::unique_ptr<layers>> begin_layers();

 private:
  remote_blocks(block_owner& owner, std::unique_ptr<fabric::transport> node, fabric::peer_id peer)
      : owner_(&owner), node_(std::move(node)), peer_(peer) {}
  result<void> fetch_ranges(std::vector<fabric::fetch_range> ranges);
  result<void> recall(std::uint64_t at, std::uint64_t length_bytes);  // of every block; nothing from memory

  block_owner* owner_;
  std::unique_ptr<fabric::transport> node_;
  fabric::peer_id peer_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
  std::size_t stride_bytes_ = 0;
  bool from_file_ = false;
};

class remote_blocks::layers {
 public:
  layers(remote_blocks& from, std::vector<block::view> blocks);
  ~layers();  // waits for what is under way

  std::span<const block::view> blocks() const { return blocks_; }
  // Until the layer's bytes are here.
  result<void> wait(std::uint32_t layer);
  // Until all layers are here and proven, which is done on the thread that brings them, right behind them.
  result<void> proven();

 private:
  void begin_next();
  void fetch(std::uint32_t layer);
  void recall_all();  // on a thread of its own: while one layer is on the wire the next comes from file
  void arrived(std::uint32_t layer, const fabric::fetch_report& report);
  void prove_what_is_here();

  remote_blocks& from_;
  std::vector<block::view> blocks_;
  std::vector<block::layer_verifier> proofs_;  // by block; of the thread that brings layers
  std::uint32_t proven_layers_ = 0;            // likewise
  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t begun_ = 0;
  std::uint32_t ended_ = 0;
  std::vector<bool> here_;  // by layer
  std::optional<error> failure_;
  std::thread from_file_;
};

}  // namespace weft::bench
