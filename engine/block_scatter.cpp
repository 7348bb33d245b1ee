#include "block_scatter.hpp"

#include <weft/engine/block_landing.hpp>
#include <weft/engine/stitch.hpp>

#include "device/block_stage.hpp"
#include "kv_cache_slots.hpp"

#include <algorithm>
#include <deque>
#include <numeric>
#include <string>

namespace weft::engine {

namespace {

// Behind the last of the consecutive slots from `begin` on. Slots ascend.
std::size_t end_of_run(std::span<const std::uint32_t> slots, std::size_t begin) {
  if (slots.back() - slots[begin] == slots.size() - 1 - begin) return slots.size();
  std::size_t end = begin + 1;
  while (end < slots.size() && slots[end] == slots[end - 1] + 1)
    ++end;
  return end;
}

// Here, or at the same place in a mirror. That the cache changes it was told when the rows got their places.
std::byte* written(const std::byte* place) {
  return const_cast<std::byte*>(place);
}

}  // namespace

void scatter_list::add(std::uint32_t layer, std::uint32_t kv_head, const source_rows& source,
                       std::span<const std::uint32_t> slots) {
  const kv_shape& shape = cache_.shape();
  const std::size_t row_bytes = kernels::code_bytes(source.coding, shape.dtype, shape.head_dim);
  const std::size_t row_scales = kernels::scales_per_row(source.coding, shape.head_dim);
  for (std::size_t begin = 0, end = 0; begin < slots.size(); begin = end) {
    end = end_of_run(slots, begin);
    places_.push_back({kv_head, slots[begin]});
    items_.push_back({.k = source.k + begin * row_bytes,
                      .v = source.v + begin * row_bytes,
                      .source_row_stride = shape.head_dim,
                      .coding = source.coding,
                      .k_scales = source.k_scales + begin * row_scales,
                      .v_scales = source.v_scales + begin * row_scales,
                      .entries = source.entries == nullptr ? nullptr : source.entries + begin,
                      .rows = static_cast<std::uint32_t>(end - begin),
                      .rotations = source.rotations,
                      .k_out = written(cache_.k_place(layer, kv_head)) + slots[begin] * shape.row_bytes(),
                      .v_out = written(cache_.v_place(layer, kv_head)) + slots[begin] * shape.row_bytes(),
                      .coding_out = shape.coding,
                      .k_scales_out = cache_.k_scales(layer, kv_head) + slots[begin] * shape.row_scales(),
                      .v_scales_out = cache_.v_scales(layer, kv_head) + slots[begin] * shape.row_scales()});
  }
}

void scatter_list::run(kernels::thread_pool& pool) {
  kernels::rotate_scatter(items_, cache_.shape().dtype, pool);
  items_.clear();
  places_.clear();
  sources_.clear();
}

namespace {

constexpr std::size_t blocks_per_round = 32;  // bounds the rotation tables

// How many of the rows (positions within a block of `tokens` that begins at `start_position`) the cache has
// already: they are written over. Mostly it has none there at all.
std::uint64_t rows_there(const kv_cache& cache, std::uint32_t layer, std::uint32_t head,
                         std::span<const std::uint16_t> positions, std::int32_t start_position,
                         std::uint32_t tokens) {
  const std::span<const std::int32_t> all(cache.positions(layer, head), cache.rows(layer, head));
  const auto first = std::ranges::lower_bound(all, start_position);
  const auto last =
      std::ranges::lower_bound(first, all.end(), start_position + static_cast<std::int32_t>(tokens));
  if (first == last) return 0;
  return static_cast<std::uint64_t>(std::ranges::count_if(positions, [&](std::uint16_t within) {
    return std::binary_search(first, last, start_position + within);
  }));
}

// Where a rank's heads begin in a block: one that holds the whole model's, or one that holds just these.
std::uint32_t first_head_in(const placed_block& placed, const kv_shape& shape, const model_shard& shard) {
  return placed.block->dimensions().kv_heads == shape.kv_heads ? 0 : shard.kv_heads.first;
}

bool has_landed(const placed_block& placed) {
  return placed.landing != nullptr;
}

// `on`: null for none.
bool has_landed_on(const compute_device* on, const placed_block& placed) {
  return on != nullptr && has_landed(placed) && placed.landing->on().memory == on->memory;
}

result<void> bring_home(const placed_block& placed) {
  return placed.landing->bring_home(placed.block->bytes().data());
}

result<void> check_block(const runner& model, const kv_shape& shape, const placed_block& placed,
                         std::int32_t free_position) {
  const block::shape& stored = placed.block->dimensions();
  const bool of_whole_model =
      shape.kv_heads == model.shard().kv_heads.count && stored.kv_heads == model.spec().kv_heads;
  if (stored.layers != shape.layers || (stored.kv_heads != shape.kv_heads && !of_whole_model) ||
      stored.head_dim != shape.head_dim || stored.dtype != shape.dtype)
    return fail(errc::invalid_argument, "a block's layers, heads or dtype are not those of the KV cache");
  if (placed.bands > placed.block->bands_present())
    return fail(errc::invalid_argument, "a block has " + std::to_string(placed.block->bands_present()) +
                                            " bands here where " + std::to_string(placed.bands) +
                                            " are to be loaded");
  if (placed.start_position < free_position)
    return fail(errc::invalid_argument, "blocks must be placed by ascending position, without overlap");
  if (has_landed(placed) && placed.landing->there(placed.block->bytes().data()) == nullptr)
    return fail(errc::invalid_argument, "a block that is to be read on a device was not proven there");
  return {};
}

// The cache that takes a band's rows.
kv_cache* taker_of(std::span<kv_cache* const> caches, kernels::row_codec coding) {
  const auto same = std::ranges::find_if(caches, [&](const auto* c) { return c->shape().coding == coding; });
  return same == caches.end() ? caches.front() : *same;
}

// What the rows that this cache takes need in each (layer, KV head) beyond the rows that are there.
result<void> check_room(const runner& model, std::span<kv_cache* const> caches, kv_cache& cache,
                        std::span<const placed_block> blocks) {
  const kv_shape& shape = cache.shape();
  std::vector<std::uint64_t> needed(std::size_t{shape.layers} * shape.kv_heads, 0);
  for (const placed_block& placed : blocks) {
    const std::uint32_t first_head = first_head_in(placed, shape, model.shard());
    for (std::uint32_t band = 0; band < placed.bands; ++band)
      for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
        const block::band_layer rows = placed.block->layer(band, layer);
        if (taker_of(caches, rows.coding) != &cache) continue;
        std::size_t first = std::accumulate(rows.counts, rows.counts + first_head, std::size_t{0});
        for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
          const std::uint32_t count = rows.counts[first_head + head];
          needed[std::size_t{layer} * shape.kv_heads + head] +=
              count - rows_there(cache, layer, head, {rows.positions + first, count}, placed.start_position,
                                 placed.block->dimensions().tokens);
          first += count;
        }
      }
  }
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      if (cache.rows(layer, head) + needed[std::size_t{layer} * shape.kv_heads + head] >
          cache.capacity_rows(layer, head))
        return fail(errc::out_of_space, "the documents' rows do not fit into a KV cache of " +
                                            std::to_string(cache.capacity_rows()) +
                                            "; ask with fewer documents");
  return {};
}

result<void> check_blocks(const runner& model, std::span<kv_cache* const> caches,
                          std::span<const placed_block> blocks) {
  std::int32_t free_position = 0;
  for (const placed_block& placed : blocks) {
    if (auto checked = check_block(model, caches.front()->shape(), placed, free_position); !checked)
      return checked;
    free_position = placed.start_position + static_cast<std::int32_t>(placed.block->dimensions().tokens);
  }
  for (kv_cache* const cache : caches)
    if (auto checked = check_room(model, caches, *cache, blocks); !checked) return checked;
  return {};
}

// The rows that one band has of one (layer, KV head).
struct band_part {
  source_rows source;
  std::uint32_t rows = 0;
};

// Blocks, and the tables of each of them; `caches` are all that take rows of theirs.
struct layer_blocks {
  std::span<kv_cache* const> caches;
  std::span<const placed_block> blocks;
  std::span<const kernels::rotation_table> rotations;
  const model_shard& shard;
  const compute_device* on = nullptr;  // the device that rows go to, if there is one
};

// Makes room for the rows of blocks that one of the caches takes in one layer, block after block and head
// after head.
class layer_placer {
 public:
  layer_placer(const layer_blocks& from, kv_cache& cache, std::uint32_t layer)
      : caches_(from.caches), cache_(cache), layer_(layer), shard_(from.shard), on_(from.on) {}

  void place(const placed_block& placed, const kernels::rotation_table& rotations, scatter_list& scatters) {
    first_row_.assign(placed.bands, 0);
    bands_.clear();
    for (std::uint32_t band = 0; band < placed.bands; ++band)
      bands_.push_back(placed.block->layer(band, layer_));
    for (const block::band_layer& rows : bands_)
      if (rows.rows > 0 && taker_of(caches_, rows.coding) == &cache_)
        scatters.add_source({bytes_of(rows), place_there(placed, rows)});
    const std::uint32_t first_head = first_head_in(placed, cache_.shape(), shard_);
    for (std::size_t band = 0; band < bands_.size(); ++band)
      first_row_[band] =
          std::accumulate(bands_[band].counts, bands_[band].counts + first_head, std::size_t{0});
    for (std::uint32_t head = 0; head < cache_.shape().kv_heads; ++head) {
      collect(first_head + head, placed.start_position, rotations);
      slots_.resize(positions_.size());
      segments_.assign(positions_.size(), placed.segment);
      open_slots(cache_, layer_, head, positions_, segments_, slots_);
      add_parts(head, placed.start_position, scatters);
    }
  }

 private:
  const std::byte* place_there(const placed_block& placed, const block::band_layer& rows) const {
    return has_landed_on(on_, placed) ? placed.landing->there(rows.k) : nullptr;
  }

  // From its keys to the end of its values, or of their scales; there are some.
  std::span<const std::byte> bytes_of(const block::band_layer& rows) const {
    const kv_shape& shape = cache_.shape();
    const std::byte* end = rows.v + rows.rows * kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
    if (rows.coding != kernels::row_codec::raw)
      end = reinterpret_cast<const std::byte*>(
          rows.v_scales + rows.rows * kernels::scales_per_row(rows.coding, shape.head_dim));
    return {rows.k, end};
  }

  void add_parts(std::uint32_t head, std::int32_t start_position, scatter_list& scatters) {
    if (parts_.size() == 1) return scatters.add(layer_, head, parts_.front().source, slots_);
    for (const band_part& part : parts_) {
      part_slots_.clear();
      for (std::uint32_t row = 0; row < part.rows; ++row)
        part_slots_.push_back(slots_[rank_of(start_position + part.source.entries[row])]);
      scatters.add(layer_, head, part.source, part_slots_);
    }
  }

  // The bands' rows of this head of the block, and their positions in the prompt in ascending order.
  void collect(std::uint32_t head, std::int32_t start_position, const kernels::rotation_table& rotations) {
    const kv_shape& shape = cache_.shape();
    parts_.clear();
    positions_.clear();
    for (std::size_t band = 0; band < bands_.size(); ++band) {
      const block::band_layer& rows = bands_[band];
      const std::size_t first = first_row_[band];
      const std::uint32_t count = rows.counts[head];
      first_row_[band] += count;
      if (taker_of(caches_, rows.coding) != &cache_) continue;
      const std::size_t codes = first * kernels::code_bytes(rows.coding, shape.dtype, shape.head_dim);
      const std::size_t scales = first * kernels::scales_per_row(rows.coding, shape.head_dim);
      parts_.push_back({{.k = rows.k + codes,
                         .v = rows.v + codes,
                         .coding = rows.coding,
                         .k_scales = rows.k_scales + scales,
                         .v_scales = rows.v_scales + scales,
                         .entries = rows.positions + first,
                         .rotations = &rotations},
                        count});
      const std::size_t collected = positions_.size();
      positions_.resize(collected + count);
      std::transform(rows.positions + first, rows.positions + first + count,
                     positions_.begin() + static_cast<std::ptrdiff_t>(collected),
                     [start_position](std::uint16_t within) { return start_position + within; });
    }
    if (parts_.size() > 1) std::ranges::sort(positions_);
  }

  std::size_t rank_of(std::int32_t position) const {
    return static_cast<std::size_t>(std::ranges::lower_bound(positions_, position) - positions_.begin());
  }

  std::span<kv_cache* const> caches_;
  kv_cache& cache_;
  std::uint32_t layer_;
  const model_shard& shard_;
  const compute_device* on_;
  std::vector<block::band_layer> bands_;  // of the current block
  std::vector<std::size_t> first_row_;    // by band: rows of the heads before this one
  std::vector<band_part> parts_;
  std::vector<std::int32_t> positions_, segments_;
  std::vector<std::uint32_t> slots_, part_slots_;
};

// Where the rows that a cache takes go.
struct destination {
  block_stage* stage = nullptr;  // null: to no device
  bool alone = false;            // nor to the host
};

// The stage, if the cache's rows can come through it.
block_stage* stage_for(block_stage* stage, const kv_cache& cache) {
  return stage != nullptr && stage->takes(cache) ? stage : nullptr;
}

// Whether rows from this position on lie behind all that the layer has.
bool lies_behind(const kv_cache& cache, std::uint32_t layer, std::int32_t position) {
  for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
    if (const auto rows = cache.rows(layer, head);
        rows > 0 && cache.positions(layer, head)[rows - 1] >= position)
      return false;
  return true;
}

bool may_come_alone(const block_stage* stage, loaded_rows wanted) {
  return stage != nullptr && stage->may_leave() && wanted == loaded_rows::where_computed;
}

// Fills a layer of a cache with the rows of blocks.
void scatter_layer(const layer_blocks& from, kv_cache& cache, std::uint32_t layer, const destination& to,
                   kernels::thread_pool& pool) {
  layer_placer placer(from, cache, layer);
  scatter_list scatters(cache);
  const auto there =
      to.stage == nullptr ? std::vector<std::uint32_t>{} : block_stage::rows_there(cache, layer);
  for (std::size_t i = 0; i < from.blocks.size(); ++i)
    placer.place(from.blocks[i], from.rotations[i], scatters);
  if (to.stage != nullptr) to.stage->bring(cache, layer, there, scatters, to.alone);
  if (!to.alone) scatters.run(pool);
}

// Blocks whose layers all come at once, as many together as there are tables for.
class block_rounds {
 public:
  block_rounds(runner& model, std::span<kv_cache* const> caches, std::size_t blocks, loaded_rows wanted)
      : model_(model),
        caches_(caches),
        wanted_(wanted),
        rotations_(std::min(blocks, blocks_per_round)),
        to_(caches.size()) {
    while (single_threads_.size() < model.threads().threads())
      single_threads_.emplace_back(1U);
  }

  result<void> run(std::span<const placed_block> blocks) {
    model_.threads().parallel_for(blocks.size(), [&](std::size_t i, unsigned) {
      rotations_[i].assign(model_.rope_frequencies(),
                           blocks[i].rotated_position.value_or(blocks[i].start_position),
                           blocks[i].block->dimensions().tokens);
    });
    const layer_blocks from{caches_, blocks, std::span(rotations_).first(blocks.size()), model_.shard(),
                            model_.device().get()};
    for (std::size_t i = 0; i < caches_.size(); ++i)
      if (auto found = find_destination(i, blocks.front().start_position); !found) return found;
    for (const placed_block& placed : blocks)
      if (has_landed(placed) && is_wanted_here(placed))
        if (auto home = bring_home(placed); !home) return home;
    if (model_.stage() == nullptr) {
      scatter(from, to_);
      return {};
    }
    model_.stage()->rotate_by(from.rotations);
    scatter(from, to_);
    // Where it fails, the next pass uploads what is here.
    if (model_.stage()->wait()) return {};
    return scatter_here(from);
  }

 private:
  result<void> find_destination(std::size_t i, std::int32_t first_position) {
    kv_cache& cache = *caches_[i];
    to_[i].stage = stage_for(model_.stage(), cache);
    to_[i].alone = may_come_alone(to_[i].stage, wanted_);
    for (std::uint32_t layer = 0; layer < cache.shape().layers && to_[i].alone; ++layer)
      to_[i].alone = lies_behind(cache, layer, first_position);
    return to_[i].alone ? result<void>{} : cache.bring_home();
  }

  // Whether a cache on the host takes rows of it, or a device that it is not on.
  bool is_wanted_here(const placed_block& placed) const {
    if (!has_landed_on(model_.device().get(), placed)) return true;
    for (std::uint32_t band = 0; band < placed.bands; ++band)
      for (std::size_t i = 0; i < caches_.size(); ++i)
        if (!to_[i].alone && taker_of(caches_, placed.block->coding(band)) == caches_[i]) return true;
    return false;
  }

  // A layer is one thread's work from placing to copying: threads that take turns at neighbouring pieces
  // halve the speed of memory.
  void scatter(const layer_blocks& from, std::span<const destination> to) {
    model_.threads().parallel_for(caches_.front()->shape().layers, [&](std::size_t layer, unsigned worker) {
      for (std::size_t i = 0; i < caches_.size(); ++i)
        scatter_layer(from, *caches_[i], static_cast<std::uint32_t>(layer), to[i], single_threads_[worker]);
    });
  }

  // What did not come to the device, into the places that it has here.
  result<void> scatter_here(const layer_blocks& from) {
    if (std::ranges::none_of(to_, &destination::alone)) return {};
    for (std::size_t i = 0; i < caches_.size(); ++i)
      if (to_[i].alone)
        if (auto home = caches_[i]->bring_home(); !home) return home;
    for (const placed_block& placed : from.blocks)
      if (has_landed(placed))
        if (auto home = bring_home(placed); !home) {
          forget(from.blocks.front().start_position);
          return home;
        }
    scatter(from, std::vector<destination>(caches_.size()));
    return {};
  }

  // Rows that came alone lie behind all others.
  void forget(std::int32_t first_position) {
    for (std::size_t i = 0; i < caches_.size(); ++i)
      if (to_[i].alone) caches_[i]->truncate(first_position);
  }

  runner& model_;
  std::span<kv_cache* const> caches_;
  loaded_rows wanted_;
  std::vector<kernels::rotation_table> rotations_;
  std::vector<destination> to_;  // by cache
  std::deque<kernels::thread_pool> single_threads_;
};

}  // namespace

bool rows_come_alone(runner& model) {
  return may_come_alone(model.stage(), loaded_rows::where_computed);
}

result<void> scatter_blocks(runner& model, kv_cache& cache, std::span<const placed_block> blocks,
                            loaded_rows wanted) {
  kv_cache* const alone[] = {&cache};
  return scatter_blocks(model, alone, blocks, wanted);
}

result<void> scatter_blocks(runner& model, std::span<kv_cache* const> caches,
                            std::span<const placed_block> blocks, loaded_rows wanted) {
  if (auto checked = check_blocks(model, caches, blocks); !checked) return checked;
  block_rounds rounds(model, caches, blocks.size(), wanted);
  while (!blocks.empty()) {
    const auto round = blocks.first(std::min(blocks.size(), blocks_per_round));
    if (auto done = rounds.run(round); !done) return done;
    blocks = blocks.subspan(round.size());
  }
  return {};
}

result<void> layer_scatter::prepare(std::span<const placed_block> blocks) {
  std::int32_t free_position = 0;
  for (const placed_block& placed : blocks) {
    if (auto checked = check_block(model_, cache_.shape(), placed, free_position); !checked) return checked;
    free_position = placed.start_position + static_cast<std::int32_t>(placed.block->dimensions().tokens);
  }
  blocks_ = blocks;
  rotations_.resize(blocks.size());
  model_.threads().parallel_for(blocks.size(), [&](std::size_t i, unsigned) {
    rotations_[i].assign(model_.rope_frequencies(),
                         blocks[i].rotated_position.value_or(blocks[i].start_position),
                         blocks[i].block->dimensions().tokens);
  });
  stage_ = stage_for(model_.stage(), cache_);
  if (stage_ != nullptr) stage_->rotate_by(rotations_);
  return {};
}

layer_scatter::~layer_scatter() {
  if (stage_ != nullptr) (void)stage_->wait();
}

result<void> layer_scatter::run(std::uint32_t layer) {
  for (const placed_block& placed : blocks_)
    if (auto good = placed.block->verify_layer(layer); !good) return good;
  if (blocks_.empty()) return {};
  kv_cache* const taker[] = {&cache_};
  const bool alone =
      may_come_alone(stage_, wanted_) && lies_behind(cache_, layer, blocks_.front().start_position);
  scatter_layer({taker, blocks_, rotations_, model_.shard()}, cache_, layer, {stage_, alone},
                model_.threads());
  return {};
}

result<void> scatter_document(runner& model, kv_cache& cache, const encoded_document& document,
                              std::int32_t start_position, std::int32_t segment,
                              std::optional<std::int32_t> rotated_position) {
  if (auto home = cache.bring_home(); !home) return home;
  const kv_shape& shape = cache.shape();
  std::vector<std::int32_t> positions(document.tokens());
  std::iota(positions.begin(), positions.end(), start_position);
  if (!has_room(cache, positions))
    return fail(errc::out_of_space, "the document's rows do not fit into a KV cache of " +
                                        std::to_string(cache.capacity_rows()) + "; ask with fewer documents");
  const std::vector<std::int32_t> segments(document.tokens(), segment);
  std::vector<std::uint32_t> slots(document.tokens());
  kernels::rotation_table rotations;
  rotations.assign(model.rope_frequencies(), rotated_position.value_or(start_position), document.tokens());
  scatter_list scatters(cache);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      open_slots(cache, layer, head, positions, segments, slots);
      const std::size_t at = layer * document.layer_bytes() + head * document.head_bytes();
      scatters.add(layer, head, {.k = document.k() + at, .v = document.v() + at, .rotations = &rotations},
                   slots);
    }
  scatters.run(model.threads());
  return {};
}

}  // namespace weft::engine
