// The part of operations.hpp that is about caches: where new rows go, and what attends to them.
#include "../kv_cache_slots.hpp"
#include "cache_mirror.hpp"
#include "device_kernels.hpp"
#include "operations.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace weft::engine {

namespace {

// Whether new rows at these positions leave the others where they are.
bool others_stay(const kv_cache& cache, std::uint32_t layer, std::uint32_t head,
                 std::span<const std::int32_t> positions) {
  const std::uint32_t rows = cache.rows(layer, head);
  if (rows == 0) return true;
  const std::int32_t last = cache.positions(layer, head)[rows - 1];
  const auto behind = positions.end() - std::ranges::upper_bound(positions, last);
  return missing_rows(cache, layer, head, positions) == static_cast<std::size_t>(behind);
}

}  // namespace

bool device_operations::has_raw_caches(std::span<const row_group> groups) {
  return std::ranges::all_of(
      groups, [](const row_group& group) { return group.cache->shape().coding == kernels::row_codec::raw; });
}

// Rows that the host moves or encodes, it needs.
result<void> device_operations::bring_home_what_moves(const row_chunk& chunk) {
  const bool coded = !has_raw_caches(chunk.groups);
  for (const row_group& group : chunk.groups) {
    const kv_cache& cache = *group.cache;
    if (cache.is_home()) continue;
    const auto positions = chunk.positions.subspan(group.first_row, group.rows);
    bool moves = coded;
    for (std::uint32_t layer = 0; layer < cache.shape().layers && !moves; ++layer)
      for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
        moves = moves || (!cache.is_home(layer, head) && !others_stay(cache, layer, head, positions));
    if (!moves) continue;
    if (auto home = cache.bring_home(); !home) return home;
  }
  return {};
}

// Gives the chunk's rows of a layer their places.
device_operations::away& device_operations::open_rows(std::uint32_t layer, const row_chunk& chunk) {
  in_place_.clear();
  for (const row_group& group : chunk.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
      in_place_.push_back(
          mirror_of(*group.cache).is_current(*group.cache, layer, head) &&
          others_stay(*group.cache, layer, head, chunk.positions.subspan(group.first_row, group.rows)));
  if (away_count_ == away_.size()) away_.emplace_back();
  away& fresh = away_[away_count_];
  fresh.layer = layer;
  fresh.runs.clear();
  fresh_.open(layer, chunk, fresh.runs);
  return fresh;
}

// The rows around those that were opened.
void device_operations::update_opened(std::uint32_t layer, std::span<const row_group> groups) {
  std::size_t which = 0;
  for (const row_group& group : groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      if (in_place_[which++])
        mirror_of(*group.cache).accept(*group.cache, layer, head);
      else
        mirror_of(*group.cache).update(*group.cache, layer, head, *stream_);
    }
}

result<void> device_operations::write_cache(std::uint32_t layer, const row_chunk& chunk, bool watched) {
  stage_->precede(*stream_);
  const away& fresh = open_rows(layer, chunk);
  rotate_queries(qkv_, static_cast<std::uint32_t>(chunk.tokens.size()));
  if (!has_raw_caches(chunk.groups)) return write_coded(layer, chunk, fresh.runs);

  update_opened(layer, chunk.groups);
  const row_writes writes = list_writes(layer, fresh.runs);
  if (auto flushed = lists_.flush(); !flushed) return flushed;
  write_there(writes);
  if (!keys_are_home_) stream_->download(home_of(layer), keys_, 2 * keys_bytes_);
  ++away_count_;
  if (!watched) return {};
  if (auto done = wait(); !done) return done;
  bring_home();
  return {};
}

// Keys are rotated from their rounded form, as on the CPU: the bytes are the same.
device_operations::row_writes device_operations::list_writes(std::uint32_t layer,
                                                             std::span<const slot_run> runs) {
  const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  std::uint32_t most_rows = 0;
  scatters_.clear();
  labels_.clear();
  for (const slot_run& run : runs) {
    const kv_cache& cache = *run.cache;
    const cache_mirror& there = mirror_of(cache);
    const std::size_t source = (std::size_t{run.first_row} * shape_.kv_heads + run.kv_head) * head_bytes;
    scatters_.push_back(
        {.k = keys_ + source,
         .v = keys_ + keys_bytes_ + source,
         .source_row_stride = key_width_,
         .rows = run.rows,
         .rotations = rotations_there_ + std::size_t{run.first_row} * shape_.head_dim,
         .k_out = const_cast<std::byte*>(there.at(cache.k_place(layer, run.kv_head))) + run.slot * head_bytes,
         .v_out =
             const_cast<std::byte*>(there.at(cache.v_place(layer, run.kv_head))) + run.slot * head_bytes});
    labels_.push_back(
        {.positions = positions_there_ + run.first_row,
         .segments = segments_there_ + run.first_row,
         .positions_out = const_cast<std::int32_t*>(there.at(cache.positions(layer, run.kv_head))) + run.slot,
         .segments_out = const_cast<std::int32_t*>(there.at(cache.segments(layer, run.kv_head))) + run.slot,
         .rows = run.rows});
    most_rows = std::max(most_rows, run.rows);
  }
  return {.scatters = lists_.add(std::span(std::as_const(scatters_))),
          .labels = lists_.add(std::span(std::as_const(labels_))),
          .count = static_cast<std::uint32_t>(runs.size()),
          .most_rows = most_rows};
}

void device_operations::write_there(const row_writes& writes) {
  kernels_.rotate_scatter(writes.scatters, writes.count, writes.most_rows, shape_.head_dim, shape_.dtype,
                          *stream_);
  kernels_.label_rows(writes.labels, writes.count, writes.most_rows, *stream_);
}

// The stream was waited for behind the download of the layer's keys and values.
void device_operations::write_here(std::uint32_t layer, std::span<const slot_run> runs) {
  runs_home_.clear();
  std::ranges::copy_if(runs, std::back_inserter(runs_home_),
                       [layer](const slot_run& run) { return run.cache->is_home(layer, run.kv_head); });
  const std::byte* const k = home_of(layer);
  fresh_.scatter(layer, runs_home_, k, k + keys_bytes_, rotations_, pool_);
}

// Rows in a codec are encoded on the host.
result<void> device_operations::write_coded(std::uint32_t layer, const row_chunk& chunk,
                                            std::span<const slot_run> runs) {
  if (!keys_are_home_)
    if (auto done = download(home_of(layer), keys_, 2 * keys_bytes_); !done) return done;
  write_here(layer, runs);
  std::size_t which = 0;
  for (const row_group& group : chunk.groups)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const kv_cache& cache = *group.cache;
      cache_mirror& there = mirror_of(cache);
      if (!in_place_[which++]) {
        there.update(cache, layer, head, *stream_);
        continue;
      }
      for (const slot_run& run : runs)
        if (run.cache == group.cache && run.kv_head == head)
          there.upload(cache, layer, head, run.slot, run.rows, *stream_);
      there.accept(cache, layer, head);
    }
  return {};
}

void device_operations::bring_home() {
  for (const away& fresh : std::span(away_).first(std::exchange(away_count_, 0))) {
    write_here(fresh.layer, fresh.runs);
    for (const slot_run& run : fresh.runs)
      mirror_of(*run.cache).accept(*run.cache, fresh.layer, run.kv_head);
  }
}

// Mirrors count as theirs what was on its way. What only they had was there before, and comes home if the
// device still gives it.
void device_operations::abandon(std::span<const row_group> groups) {
  (void)wait();
  (void)stage_->wait();
  for (const row_group& group : groups)
    for (const kv_cache* cache = group.cache; cache != nullptr; cache = cache->base()) {
      (void)cache->bring_home();
      cache->keep_mirror(nullptr);
    }
}

void device_operations::update_mirrors(std::uint32_t layer, std::span<const row_group> groups) {
  for (const row_group& group : groups)
    for (const kv_cache* cache = group.cache; cache != nullptr; cache = cache->base())
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
        mirror_of(*cache).update(*cache, layer, head, *stream_);
}

result<void> device_operations::attend(std::uint32_t layer, const active_rows& active,
                                       forward_observer* observer) {
  const bool counts = observer != nullptr && observer->counts_columns();
  const bool there = active.decode_step ? attention_there_.takes_decode() : attention_there_.takes_prefill();
  if (!there || (counts && !counts_there(active.groups))) return attend_here(layer, active, observer);
  update_mirrors(layer, active.groups);
  return attend_there(layer, active, observer);
}

result<void> device_operations::attend_there(std::uint32_t layer, const active_rows& active,
                                             forward_observer* observer) {
  const device_rows rows{qkv_, qkv_width_, attention_};
  if (active.decode_step) return attention_there_.decode(layer, active, rows, observer);
  for (const row_group& group : active.groups) {
    if (auto attended = attention_there_.prefill(layer, active, group, rows); !attended) return attended;
    if (observer == nullptr) continue;
    if (layer + 1 < config_.layers)
      if (auto counted = count_there(layer, active.first_row, group, *observer); !counted) return counted;
    const auto part = observer->next_part(layer, *group.cache);
    if (part.empty()) continue;
    const auto queries = show_queries(active.rows);
    if (!queries) return tl::unexpected(queries.error());
    attention_rows_.resize(std::size_t{active.rows} * query_width_);
    if (auto done = download(attention_rows_.data(), attention_, attention_rows_.size() * sizeof(float));
        !done)
      return done;
    attention_here_.add_parts(layer, group, active, *queries, part, attention_rows_.data(), *observer);
    stream_->upload(reinterpret_cast<std::byte*>(attention_), attention_rows_.data(),
                    attention_rows_.size() * sizeof(float));
    if (auto done = wait(); !done) return done;
  }
  return {};
}

bool device_operations::counts_there(std::span<const row_group> groups) const {
  return attention_there_.takes_prefill() && has_raw_caches(groups);
}

// What an observer counts of the layer's attention, for a group of the chunk's rows.
result<void> device_operations::count_there(std::uint32_t layer, std::uint32_t first_row,
                                            const row_group& group, forward_observer& observer) {
  if (!observer.counts_columns()) return {};
  const auto* const count = observer.columns_to_count(layer, first_row + group.first_row, group.rows);
  if (count == nullptr) return {};
  return counting_.count(layer, *group.cache,
                         {.q = qkv_ + std::size_t{group.first_row} * qkv_width_,
                          .row_stride = qkv_width_,
                          .rows = group.rows,
                          .positions = positions_there_ + group.first_row,
                          .segments = segments_there_ + group.first_row},
                         *count);
}

// What the kernels do not take: over the host's caches.
result<void> device_operations::attend_here(std::uint32_t layer, const active_rows& active,
                                            forward_observer* observer) {
  const auto queries = show_queries(active.rows);
  if (!queries) return tl::unexpected(queries.error());
  bring_home();
  attention_rows_.resize(std::size_t{active.rows} * query_width_);
  attention_here_.attend(layer, active, *queries, attention_rows_.data(), observer);
  stream_->upload(reinterpret_cast<std::byte*>(attention_), attention_rows_.data(),
                  attention_rows_.size() * sizeof(float));
  return {};
}

result<void> device_operations::count_columns(std::uint32_t layer, const row_chunk& chunk,
                                              forward_observer& observer) {
  if (counts_there(chunk.groups)) {
    update_mirrors(layer, chunk.groups);
    for (const row_group& group : chunk.groups)
      if (auto counted = count_there(layer, chunk.first_row, group, observer); !counted) return counted;
    return {};
  }
  const auto queries = show_queries(static_cast<std::uint32_t>(chunk.tokens.size()));
  if (!queries) return tl::unexpected(queries.error());
  bring_home();
  attention_here_.count_columns(layer, chunk, *queries, observer);
  return {};
}

}  // namespace weft::engine
