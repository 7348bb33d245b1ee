#include "block_stage.hpp"

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

constexpr std::size_t alignment_bytes = 256;

std::uintptr_t number_of(const void* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

// So many bytes behind `offset`, as far from a boundary as they lie here: kernels read packs.
std::size_t place_of(std::size_t offset, const std::byte* here) {
  return (offset + alignment_bytes - 1) / alignment_bytes * alignment_bytes +
         number_of(here) % alignment_bytes;
}

// By KV head, the first row that the device has not, or not where it is now.
std::vector<std::uint32_t> first_new_rows(std::span<const std::uint32_t> there, const scatter_list& rows) {
  std::vector<std::uint32_t> first(there.begin(), there.end());
  for (const scatter_list::place& place : rows.places())
    first[place.kv_head] = std::min(first[place.kv_head], place.slot);
  return first;
}

}  // namespace

result<std::unique_ptr<block_stage>> block_stage::make(std::shared_ptr<const compute_device> on) {
  auto first = on->memory->make_stream();
  if (!first) return tl::unexpected(first.error());
  auto second = on->memory->make_stream();
  if (!second) return tl::unexpected(second.error());
  return std::make_unique<block_stage>(std::move(on), std::move(*first), std::move(*second));
}

block_stage::block_stage(std::shared_ptr<const compute_device> on, std::unique_ptr<device::stream> first,
                         std::unique_ptr<device::stream> second)
    : on_(std::move(on)), lanes_{{{on_->memory, std::move(first)}, {on_->memory, std::move(second)}}} {}

// Memory is released behind what still uses it.
block_stage::~block_stage() {
  for (lane& on : lanes_)
    (void)on.stream->wait();
}

bool block_stage::takes(const kv_cache& cache) const {
  return cache.shape().coding == kernels::row_codec::raw && cache_mirror::of(cache, on_);
}

void block_stage::rotate_by(std::span<const kernels::rotation_table> tables) {
  const std::scoped_lock lock(mutex_);
  tables_ = tables;
  table_starts_.clear();
  std::size_t floats = 0;
  for (const kernels::rotation_table& table : tables) {
    table_starts_.push_back(floats);
    floats += std::size_t{table.size()} * table.head_dim();
  }
  const auto memory = rotations_.reserve(*on_->memory, floats * sizeof(float), "the rotations of blocks");
  if (!memory) {
    outcome_ = tl::unexpected(memory.error());
    return;
  }
  rotations_there_ = reinterpret_cast<const float*>(*memory);
  device::stream& stream = *lanes_[0].stream;
  for (std::size_t i = 0; i < tables.size(); ++i)
    stream.upload(*memory + table_starts_[i] * sizeof(float), tables[i].cosines(0),
                  std::size_t{tables[i].size()} * tables[i].head_dim() * sizeof(float));
  lanes_[1].stream->after(stream);
}

const float* block_stage::rotations_of(const kernels::rotation_table* table) const {
  return rotations_there_ + table_starts_[static_cast<std::size_t>(table - tables_.data())];
}

std::vector<std::uint32_t> block_stage::rows_there(const kv_cache& cache, std::uint32_t layer) {
  const cache_mirror& mirror = mirror_of(cache);
  std::vector<std::uint32_t> rows(cache.shape().kv_heads, 0);
  for (std::uint32_t head = 0; head < rows.size(); ++head)
    if (mirror.is_current(cache, layer, head)) rows[head] = cache.rows(layer, head);
  return rows;
}

void block_stage::bring(kv_cache& cache, std::uint32_t layer, std::span<const std::uint32_t> there,
                        const scatter_list& rows, bool alone) {
  const std::scoped_lock lock(mutex_);
  if (!outcome_ || rows.items().empty()) return;
  if (std::ranges::find(brought_to_, &cache) == brought_to_.end()) brought_to_.push_back(&cache);
  lane& on = lanes_[turn_++ % lanes_.size()];
  on.ahead = true;
  outcome_ = bring_layer(on, cache, layer, there, rows);
  if (!outcome_ || !alone) return;
  leave(cache, layer);
  std::uint64_t brought = 0;
  for (const auto& item : rows.items())
    brought += item.rows;
  alone_bytes_ += 2 * brought * cache.shape().row_bytes();
}

void block_stage::leave(kv_cache& cache, std::uint32_t layer) {
  for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head) {
    if (!cache.is_home(layer, head)) continue;
    cache.leave_away(layer, head);
    left_.push_back({&cache, layer, head});
  }
}

void block_stage::give_up() {
  for (const away_head& left : left_)
    left.cache->count_as_home(left.layer, left.kv_head);
  for (const kv_cache* cache : brought_to_) {
    (void)cache->bring_home();
    cache->keep_mirror(nullptr);
  }
}

result<void> block_stage::bring_layer(lane& on, const kv_cache& cache, std::uint32_t layer,
                                      std::span<const std::uint32_t> there, const scatter_list& rows) {
  cache_mirror& mirror = mirror_of(cache);
  const kv_shape& shape = cache.shape();
  const auto first_rows = first_new_rows(there, rows);
  if (auto copied = copy_sources(on, rows.sources()); !copied) return copied;
  list_items(mirror, rows);
  list_labels(mirror, cache, layer, first_rows);
  upload_others(mirror, cache, layer, first_rows, rows, *on.stream);

  // Both lists are written on as long as they are here: what they point to is added first.
  const auto* const entries = on.lists.add(std::span(std::as_const(entries_)));
  const auto* const positions = on.lists.add(std::span(std::as_const(positions_)));
  const auto* const segments = on.lists.add(std::span(std::as_const(segments_)));
  std::uint32_t most_rows = 0;
  std::size_t entry = 0;
  for (auto& item : items_) {
    item.entries = entries + std::exchange(entry, entry + item.rows);
    most_rows = std::max(most_rows, item.rows);
  }
  std::uint32_t most_labels = 0;
  std::size_t label = 0;
  for (auto& item : labels_) {
    item.positions = positions + label;
    item.segments = segments + std::exchange(label, label + item.rows);
    most_labels = std::max(most_labels, item.rows);
  }
  const auto* const items = on.lists.add(std::span(std::as_const(items_)));
  const auto* const labels = on.lists.add(std::span(std::as_const(labels_)));
  if (auto flushed = on.lists.flush(); !flushed) return flushed;
  on_->kernels->rotate_scatter(items, static_cast<std::uint32_t>(items_.size()), most_rows, shape.head_dim,
                               shape.dtype, *on.stream);
  on_->kernels->label_rows(labels, static_cast<std::uint32_t>(labels_.size()), most_labels, *on.stream);
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
    mirror.accept(cache, layer, head);
  return {};
}

// One behind the other, but for those that are there. Kept in the order of their addresses here.
result<void> block_stage::copy_sources(lane& on, std::span<const scatter_list::source_bytes> sources) {
  std::size_t bytes = 0;
  for (const auto& source : sources)
    if (source.there == nullptr) bytes += source.here.size() + 2 * alignment_bytes;
  const auto memory = on.bytes.reserve(*on_->memory, bytes, "a layer of blocks");
  if (!memory) return tl::unexpected(memory.error());
  sources_.clear();
  std::size_t next = 0;
  for (const auto& [here, there] : sources) {
    if (there != nullptr) {
      sources_.push_back({here.data(), there});
      continue;
    }
    next = place_of(next, here.data());
    sources_.push_back({here.data(), *memory + next});
    on.stream->upload(*memory + next, here.data(), here.size());
    next += here.size();
  }
  std::ranges::sort(sources_, {}, [](const staged_source& s) { return number_of(s.here); });
  return {};
}

// Entries come where the lists are added.
void block_stage::list_items(const cache_mirror& mirror, const scatter_list& rows) {
  items_.clear();
  entries_.clear();
  for (const kernels::scatter_rows& item : rows.items()) {
    const auto behind = std::ranges::upper_bound(sources_, number_of(item.k), {},
                                                 [](const staged_source& s) { return number_of(s.here); });
    const staged_source& source = *std::prev(behind);
    const auto there = [&source]<class T>(const T* here) {
      return reinterpret_cast<const T*>(source.there +
                                        (reinterpret_cast<const std::byte*>(here) - source.here));
    };
    const bool raw = item.coding == kernels::row_codec::raw;
    items_.push_back({.k = there(item.k),
                      .v = there(item.v),
                      .source_row_stride = item.source_row_stride,
                      .coding = item.coding,
                      .k_scales = raw ? nullptr : there(item.k_scales),
                      .v_scales = raw ? nullptr : there(item.v_scales),
                      .rows = item.rows,
                      .rotations = rotations_of(item.rotations),
                      .k_out = mirror.at(item.k_out),
                      .v_out = mirror.at(item.v_out)});
    entries_.insert(entries_.end(), item.entries, item.entries + item.rows);
  }
}

void block_stage::list_labels(const cache_mirror& mirror, const kv_cache& cache, std::uint32_t layer,
                              std::span<const std::uint32_t> first_rows) {
  labels_.clear();
  positions_.clear();
  segments_.clear();
  for (std::uint32_t head = 0; head < first_rows.size(); ++head) {
    const std::uint32_t first = first_rows[head];
    const std::uint32_t rows = cache.rows(layer, head) - first;
    if (rows == 0) continue;
    const std::int32_t* const positions = cache.positions(layer, head) + first;
    const std::int32_t* const segments = cache.segments(layer, head) + first;
    positions_.insert(positions_.end(), positions, positions + rows);
    segments_.insert(segments_.end(), segments, segments + rows);
    labels_.push_back({.positions_out = const_cast<std::int32_t*>(mirror.at(positions)),
                       .segments_out = const_cast<std::int32_t*>(mirror.at(segments)),
                       .rows = rows});
  }
}

// Rows behind the first new one that are none of these: they moved, or were never here.
void block_stage::upload_others(const cache_mirror& mirror, const kv_cache& cache, std::uint32_t layer,
                                std::span<const std::uint32_t> first_rows, const scatter_list& rows,
                                device::stream& stream) {
  std::vector<std::vector<bool>> brought(first_rows.size());
  for (std::uint32_t head = 0; head < first_rows.size(); ++head)
    brought[head].resize(cache.rows(layer, head) - first_rows[head]);
  for (std::size_t i = 0; i < rows.items().size(); ++i) {
    const scatter_list::place& place = rows.places()[i];
    const auto begin = brought[place.kv_head].begin() + (place.slot - first_rows[place.kv_head]);
    std::fill(begin, begin + rows.items()[i].rows, true);
  }
  for (std::uint32_t head = 0; head < first_rows.size(); ++head) {
    if (!cache.is_home(layer, head)) continue;
    const auto& known = brought[head];
    for (auto begin = std::ranges::find(known, false); begin != known.end();) {
      const auto end = std::find(begin, known.end(), true);
      mirror.upload_kv(cache, layer, head,
                       first_rows[head] + static_cast<std::uint32_t>(begin - known.begin()),
                       static_cast<std::uint32_t>(end - begin), stream);
      begin = std::find(end, known.end(), false);
    }
  }
}

void block_stage::precede(device::stream& compute) {
  const std::scoped_lock lock(mutex_);
  for (lane& on : lanes_)
    if (std::exchange(on.ahead, false)) compute.after(*on.stream);
}

result<void> block_stage::wait() {
  const std::scoped_lock lock(mutex_);
  if (brought_to_.empty() && tables_.empty()) return {};
  for (lane& on : lanes_) {
    if (auto done = on.stream->wait(); !done && outcome_) outcome_ = std::move(done);
    on.lists.reset();
    on.bytes.settle();
    on.ahead = false;
  }
  rotations_.settle();
  tables_ = {};
  if (outcome_)
    rows_away_of(*on_).left_bytes += alone_bytes_;
  else
    give_up();
  alone_bytes_ = 0;
  brought_to_.clear();
  left_.clear();
  return std::exchange(outcome_, {});
}

}  // namespace weft::engine
