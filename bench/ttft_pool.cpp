#include "ttft_pool.hpp"

#include <weft/fabric/ucx_transport.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <string>

namespace weft::bench {

namespace {

constexpr auto timeout = std::chrono::seconds{60};
constexpr std::uint32_t layers_under_way = 2;
constexpr std::size_t header_bytes = 4096;  // with the tables of one band: 128 + 32 + 4 a layer

std::size_t rounded_up(std::size_t bytes) {
  return (bytes + block::block_alignment_bytes - 1) / block::block_alignment_bytes *
         block::block_alignment_bytes;
}

}  // namespace

block::shape block_shape_of(const engine::kv_shape& shape) {
  return {.layers = shape.layers,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .tokens = block_tokens,
          .dtype = shape.dtype};
}

std::size_t arena_bytes_for(const engine::model_config& config, std::uint32_t tokens) {
  const auto shape = block_shape_of({config.layers, config.kv_heads, config.head_dim, config.weights_dtype});
  const std::vector<block::band_rows> bands{block::all_rows(shape)};
  return (block::size_bytes(shape, bands) + block::block_alignment_bytes) * (tokens / block_tokens);
}

result<remote_blocks> remote_blocks::connect(block_owner& owner, std::size_t arena_bytes) {
  if (auto ready = owner.await_ready(); !ready) return tl::unexpected{ready.error()};
  fabric::ucx_options options;
  options.transports = owner.transport();
  options.arena_bytes = arena_bytes;
  auto node = fabric::make_ucx_transport(options);
  if (!node) return tl::unexpected{node.error()};
  std::promise<result<fabric::peer_id>> connected;
  (*node)->connect(owner.fabric_address(), timeout,
                   [&](const result<fabric::peer_id>& peer) { connected.set_value(peer); });
  const auto peer = connected.get_future().get();
  if (!peer) return tl::unexpected{peer.error()};
  return remote_blocks(owner, std::move(*node), *peer);
}

result<void> remote_blocks::fill(const block::shape& shape, std::size_t count) {
  const std::vector<block::band_rows> bands{block::all_rows(shape)};
  bytes_ = block::size_bytes(shape, bands);
  stride_bytes_ = rounded_up(bytes_);
  count_ = count;
  return owner_->fill_rows(shape, stride_bytes_, count);
}

result<void> remote_blocks::store(const std::filesystem::path& folder) {
  return owner_->store(folder, count_ * stride_bytes_);
}

result<void> remote_blocks::recall(std::uint64_t at, std::uint64_t length_bytes) {
  if (!from_file_) return {};
  return owner_->recall(at, length_bytes, stride_bytes_, count_);
}

std::span<std::byte> remote_blocks::place(std::size_t index) const {
  return node_->arena().subspan(index * stride_bytes_, bytes_);
}

result<void> remote_blocks::fetch_ranges(std::vector<fabric::fetch_range> ranges) {
  std::promise<result<void>> fetched;
  node_->fetch(peer_, std::move(ranges), timeout,
               [&](const fabric::fetch_report& report) { fetched.set_value(report.outcome); });
  return fetched.get_future().get();
}

result<std::vector<block::view>> remote_blocks::fetch() {
  if (auto there = recall(0, bytes_); !there) return tl::unexpected{there.error()};
  std::vector<fabric::fetch_range> ranges;
  for (std::size_t i = 0; i < count_; ++i)
    ranges.push_back({i * stride_bytes_, bytes_, i * stride_bytes_});
  if (auto fetched = fetch_ranges(std::move(ranges)); !fetched) return tl::unexpected{fetched.error()};
  std::vector<block::view> blocks;
  for (std::size_t i = 0; i < count_; ++i) {
    auto proven = block::verify(place(i), identity_of(stride_bytes_, i));
    if (!proven) return tl::unexpected{proven.error()};
    blocks.push_back(std::move(*proven));
  }
  return blocks;
}

result<std::unique_ptr<remote_blocks::layers>> remote_blocks::begin_layers() {
  if (auto there = recall(0, std::min(bytes_, header_bytes)); !there) return tl::unexpected{there.error()};
  std::vector<fabric::fetch_range> ranges;
  for (std::size_t i = 0; i < count_; ++i)
    ranges.push_back({i * stride_bytes_, std::min(bytes_, header_bytes), i * stride_bytes_});
  if (auto fetched = fetch_ranges(std::move(ranges)); !fetched) return tl::unexpected{fetched.error()};
  std::vector<block::view> blocks;
  for (std::size_t i = 0; i < count_; ++i) {
    auto parsed = block::view::parse(place(i));
    if (!parsed) return tl::unexpected{parsed.error()};
    if (parsed->id() != identity_of(stride_bytes_, i)) return fail(errc::stale, "another block");
    blocks.push_back(std::move(*parsed));
  }
  return std::make_unique<layers>(*this, std::move(blocks));
}

remote_blocks::layers::layers(remote_blocks& from, std::vector<block::view> blocks)
    : from_(from), blocks_(std::move(blocks)), here_(blocks_.front().dimensions().layers) {
  for (const block::view& block : blocks_)
    proofs_.emplace_back(block);
  if (from_.from_file_) {
    from_file_ = std::thread([this] { recall_all(); });
    return;
  }
  for (std::uint32_t i = 0; i < layers_under_way; ++i)
    begin_next();
}

remote_blocks::layers::~layers() {
  if (from_file_.joinable()) from_file_.join();
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return ended_ == begun_; });
}

void remote_blocks::layers::begin_next() {
  std::uint32_t layer = 0;
  {
    const std::lock_guard lock{mutex_};
    if (failure_ || begun_ == blocks_.front().dimensions().layers) return;
    layer = begun_++;
  }
  fetch(layer);
}

void remote_blocks::layers::recall_all() {
  for (std::uint32_t layer = 0; layer < blocks_.front().dimensions().layers; ++layer) {
    const auto range = blocks_.front().range_of_layer(0, layer);  // the same in all of them
    const auto there = from_.recall(range.offset, range.bytes);
    {
      const std::lock_guard lock{mutex_};
      if (!there) {
        failure_ = there.error();
        changed_.notify_all();
        return;
      }
      ++begun_;
    }
    fetch(layer);
  }
}

void remote_blocks::layers::fetch(std::uint32_t layer) {
  std::vector<fabric::fetch_range> ranges;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const auto range = blocks_[i].range_of_layer(0, layer);
    const auto offset = i * from_.stride_bytes_ + range.offset;
    ranges.push_back({offset, range.bytes, offset});
  }
  from_.node_->fetch(from_.peer_, std::move(ranges), timeout,
                     [this, layer](const fabric::fetch_report& report) { arrived(layer, report); });
}

void remote_blocks::layers::arrived(std::uint32_t layer, const fabric::fetch_report& report) {
  if (!from_.from_file_) begin_next();
  {
    const std::lock_guard lock{mutex_};
    if (!report.outcome && !failure_) failure_ = report.outcome.error();
    here_[layer] = true;
    changed_.notify_all();
  }
  prove_what_is_here();
  const std::lock_guard lock{mutex_};
  ++ended_;
  changed_.notify_all();
}

// In order, whatever the order in which layers arrive.
void remote_blocks::layers::prove_what_is_here() {
  const auto next_is_here = [this] {
    const std::lock_guard lock{mutex_};
    return !failure_ && proven_layers_ < here_.size() && here_[proven_layers_];
  };
  for (; next_is_here(); ++proven_layers_)
    for (auto& proof : proofs_)
      proof.append_layer();
}

result<void> remote_blocks::layers::proven() {
  {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return failure_ || ended_ == here_.size(); });
    if (failure_) return tl::unexpected{*failure_};
  }
  for (const auto& proof : proofs_)
    if (auto good = proof.finish(); !good) return good;
  return {};
}

result<void> remote_blocks::layers::wait(std::uint32_t layer) {
  std::unique_lock lock{mutex_};
  changed_.wait(lock, [&] { return failure_ || here_[layer]; });
  if (failure_) return tl::unexpected{*failure_};
  return {};
}

}  // namespace weft::bench
