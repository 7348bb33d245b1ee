#include "device_document.hpp"

#include "device_alignment.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

// Enough for a warp of checksums on each multiprocessor, of blocks of several bands.
constexpr std::size_t most_image_bytes = std::size_t{32} << 20U;
constexpr std::size_t part_of_free = 32;  // for each of both lanes

std::size_t bands_of(std::span<const block_place> blocks) {
  std::size_t bands = 0;
  for (const block_place& block : blocks)
    bands += block.bands.size();
  return bands;
}

// As many as go together, one at least.
std::size_t next_blocks(std::span<const block_place> blocks, std::size_t most_bytes) {
  std::size_t bytes = 0;
  std::size_t count = 0;
  while (count < blocks.size() && (count == 0 || bytes + blocks[count].out.size() <= most_bytes))
    bytes += aligned_on_device(blocks[count++].out.size());
  return count;
}

}  // namespace

result<std::shared_ptr<device_document>> device_document::make(std::shared_ptr<const compute_device> on,
                                                               const kv_shape& shape, std::uint32_t tokens) {
  const std::size_t bytes = std::size_t{2} * shape.layers * tokens * shape.kv_heads * shape.row_bytes();
  if (const auto free_bytes = on->memory->sizes().free_bytes; bytes > free_bytes / 2)
    return fail(errc::out_of_space, "the rows of a document need " + std::to_string(bytes) +
                                        " bytes, more than half of the " + std::to_string(free_bytes) +
                                        " that are free");
  auto rows = on->memory->allocate(bytes, "the rows of a document");
  if (!rows) return tl::unexpected(rows.error());
  return std::make_shared<device_document>(std::move(on), shape, tokens, std::move(*rows));
}

device_document::device_document(std::shared_ptr<const compute_device> on, const kv_shape& shape,
                                 std::uint32_t tokens, device::memory rows)
    : on_(std::move(on)),
      shape_(shape),
      tokens_(tokens),
      token_bytes_(shape.kv_heads * shape.row_bytes()),
      rows_(std::move(rows)) {}

// Memory is released behind what still uses it.
device_document::~device_document() {
  for (const auto& on : lanes_)
    if (on) (void)on->stream->wait();
}

void device_document::take(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                           const std::byte* k, const std::byte* v, device::stream& stream) {
  std::byte* const to = rows_.data() + (std::size_t{layer} * tokens_ + first_row) * token_bytes_;
  stream.copy(to, k, rows * token_bytes_);
  stream.copy(to + rows_.size_bytes() / 2, v, rows * token_bytes_);
}

result<void> device_document::make_lanes() {
  if (!lanes_.front())
    image_bytes_ = std::min(most_image_bytes, on_->memory->sizes().free_bytes / part_of_free);
  for (auto& on : lanes_) {
    if (on) continue;
    auto stream = on_->memory->make_stream();
    if (!stream) return tl::unexpected(stream.error());
    on = std::make_unique<lane>(on_->memory, std::move(*stream));
  }
  return {};
}

block::shape device_document::shape_of(const block_place& block, std::uint32_t block_tokens) const {
  return {.layers = shape_.layers,
          .kv_heads = shape_.kv_heads,
          .head_dim = shape_.head_dim,
          .tokens = std::min(block_tokens, tokens_ - block.index * block_tokens),
          .dtype = shape_.dtype};
}

result<void> device_document::write(std::uint32_t block_tokens, std::span<const block_place> blocks) {
  for (const block_place& block : blocks)
    if (auto checked = block::check_place(block.out, shape_of(block, block_tokens), block.bands); !checked)
      return checked;
  auto done = make_lanes();
  for (std::size_t turn = 0; done && !blocks.empty(); ++turn) {
    lane& on = *lanes_[turn % lanes_.size()];
    const std::size_t count = next_blocks(blocks, image_bytes_);
    done = finish(on, block_tokens);
    if (done) done = begin(on, block_tokens, blocks.first(count));
    blocks = blocks.subspan(count);
  }
  for (const auto& on : lanes_) {
    if (!on) continue;
    const auto finished = finish(*on, block_tokens);
    if (done) done = finished;
  }
  return done;
}

result<device_document::room> device_document::reserve(lane& on, std::size_t image_bytes,
                                                       std::size_t bands) const {
  constexpr std::string_view purpose = "blocks on their way";
  on.images.settle();
  on.sums.settle();
  const std::size_t sums_bytes = bands * sizeof(std::uint64_t);
  const auto images = on.images.reserve(*on_->memory, image_bytes, purpose);
  if (!images) return tl::unexpected(images.error());
  const auto sums = on.sums.reserve(*on_->memory, sums_bytes, purpose);
  if (!sums) return tl::unexpected(sums.error());
  if (sums_bytes > on.sums_here.size_bytes()) {
    auto pinned = on_->memory->allocate_pinned(sums_bytes, purpose);
    if (!pinned) return tl::unexpected(pinned.error());
    on.sums_here = std::move(*pinned);
  }
  return room{*images, reinterpret_cast<std::uint64_t*>(*sums)};
}

// The lane's stream was waited for.
result<void> device_document::begin(lane& on, std::uint32_t block_tokens,
                                    std::span<const block_place> blocks) {
  std::size_t bytes = 0;
  for (const block_place& block : blocks)
    bytes += aligned_on_device(block.out.size());
  const auto memory = reserve(on, bytes, bands_of(blocks));
  if (!memory) return tl::unexpected(memory.error());
  on.lists.reset();
  assembly_.clear();
  std::byte* image = memory->images;
  for (const block_place& block : blocks) {
    const std::byte* const k = rows_.data() + std::size_t{block.index} * block_tokens * token_bytes_;
    assembly_.add(block, shape_of(block, block_tokens),
                  {.k = k,
                   .v = k + rows_.size_bytes() / 2,
                   .layer_bytes = tokens_ * token_bytes_,
                   .token_bytes = token_bytes_},
                  image, on.lists);
    image += aligned_on_device(block.out.size());
  }
  if (auto run = assembly_.run(shape_of(blocks.front(), block_tokens), memory->sums, on.lists, *on_->kernels,
                               *on.stream);
      !run)
    return run;
  on.stream->download(on.sums_here.data(), reinterpret_cast<const std::byte*>(memory->sums),
                      assembly_.bands() * sizeof(std::uint64_t));
  image = memory->images;
  for (const block_place& block : blocks) {
    const std::size_t first = block::header_bytes(shape_of(block, block_tokens), block.bands);
    on.stream->download(block.out.data() + first, image + first, block.out.size() - first);
    image += aligned_on_device(block.out.size());
  }
  on.blocks = blocks;
  return {};
}

result<void> device_document::finish(lane& on, std::uint32_t block_tokens) const {
  const auto blocks = std::exchange(on.blocks, {});
  if (auto done = on.stream->wait(); !done) return done;
  const auto* sum = reinterpret_cast<const std::uint64_t*>(on.sums_here.data());
  for (const block_place& block : blocks) {
    block::write_header(block.out, block.id, shape_of(block, block_tokens), block.bands,
                        {sum, block.bands.size()});
    sum += block.bands.size();
  }
  return {};
}

}  // namespace weft::engine
