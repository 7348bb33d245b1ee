#include "kv_cache_slots.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>

namespace weft::engine {

namespace {

bool behind_all_rows(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                     std::int32_t position) {
  const std::uint32_t rows = cache.rows(layer, kv_head);
  return rows == 0 || cache.positions(layer, kv_head)[rows - 1] < position;
}

// The rows of one (layer, KV head) as parallel lists; `move`, where keys and values do.
class row_lists {
 public:
  row_lists(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head, bool move)
      : k_(move ? cache.k(layer, kv_head) : nullptr),
        v_(move ? cache.v(layer, kv_head) : nullptr),
        k_scales_(cache.k_scales(layer, kv_head)),
        v_scales_(cache.v_scales(layer, kv_head)),
        positions_(cache.positions(layer, kv_head)),
        segments_(cache.segments(layer, kv_head)),
        row_bytes_(cache.shape().row_bytes()),
        scales_(cache.shape().row_scales()) {}

  void move(std::uint32_t from, std::uint32_t to, std::uint32_t rows) {
    if (rows == 0) return;
    std::memmove(k_ + to * row_bytes_, k_ + from * row_bytes_, rows * row_bytes_);
    std::memmove(v_ + to * row_bytes_, v_ + from * row_bytes_, rows * row_bytes_);
    std::memmove(k_scales_ + to * scales_, k_scales_ + from * scales_,
                 rows * scales_ * sizeof(std::uint16_t));
    std::memmove(v_scales_ + to * scales_, v_scales_ + from * scales_,
                 rows * scales_ * sizeof(std::uint16_t));
    std::memmove(positions_ + to, positions_ + from, rows * sizeof(std::int32_t));
    std::memmove(segments_ + to, segments_ + from, rows * sizeof(std::int32_t));
  }
  void label(std::uint32_t row, std::int32_t position, std::int32_t segment) {
    positions_[row] = position;
    segments_[row] = segment;
  }
  std::int32_t position(std::uint32_t row) const { return positions_[row]; }

 private:
  std::byte* k_;
  std::byte* v_;
  std::uint16_t* k_scales_;
  std::uint16_t* v_scales_;
  std::int32_t* positions_;
  std::int32_t* segments_;
  std::size_t row_bytes_;
  std::size_t scales_;
};

void append_rows(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                 std::span<const std::int32_t> positions, std::span<const std::int32_t> segments,
                 std::span<std::uint32_t> slots) {
  const std::uint32_t rows = cache.rows(layer, kv_head);
  std::copy(positions.begin(), positions.end(), cache.positions(layer, kv_head) + rows);
  std::copy(segments.begin(), segments.end(), cache.segments(layer, kv_head) + rows);
  std::iota(slots.begin(), slots.end(), rows);
  cache.set_rows(layer, kv_head, rows + static_cast<std::uint32_t>(positions.size()));
}

// How many of the positions lie behind all rows.
std::uint32_t new_behind(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                         std::span<const std::int32_t> positions) {
  const std::int32_t last = cache.positions(layer, kv_head)[cache.rows(layer, kv_head) - 1];
  return static_cast<std::uint32_t>(positions.end() - std::ranges::upper_bound(positions, last));
}

// Merges from the back, so that every row moves once and in whole runs.
void merge_rows(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                std::span<const std::int32_t> positions, std::span<const std::int32_t> segments,
                std::span<std::uint32_t> slots) {
  std::uint32_t unmoved = cache.rows(layer, kv_head);
  std::uint32_t still_new = missing_rows(cache, layer, kv_head, positions);
  row_lists lists(cache, layer, kv_head, still_new > new_behind(cache, layer, kv_head, positions));
  cache.set_rows(layer, kv_head, unmoved + still_new);
  for (std::size_t i = positions.size(); i-- > 0;) {
    std::uint32_t run_begin = unmoved;
    while (run_begin > 0 && lists.position(run_begin - 1) > positions[i])
      --run_begin;
    const bool present = run_begin > 0 && lists.position(run_begin - 1) == positions[i];
    if (still_new > 0) lists.move(run_begin, run_begin + still_new, unmoved - run_begin);
    unmoved = run_begin;
    if (present) {
      --unmoved;
      if (still_new > 0) lists.move(unmoved, unmoved + still_new, 1);
    } else {
      --still_new;
    }
    slots[i] = unmoved + still_new;
    lists.label(slots[i], positions[i], segments[i]);
  }
}

}  // namespace

std::uint32_t missing_rows(const kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                           std::span<const std::int32_t> positions) {
  if (positions.empty()) return 0;
  if (behind_all_rows(cache, layer, kv_head, positions.front()))
    return static_cast<std::uint32_t>(positions.size());
  const std::int32_t* row = cache.positions(layer, kv_head);
  const std::int32_t* const end = row + cache.rows(layer, kv_head);
  row = std::lower_bound(row, end, positions.front());
  std::uint32_t missing = 0;
  for (const std::int32_t position : positions) {
    while (row != end && *row < position)
      ++row;
    if (row == end || *row != position) ++missing;
  }
  return missing;
}

bool has_room(const kv_cache& cache, std::span<const std::int32_t> positions) {
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
      if (missing_rows(cache, layer, head, positions) >
          cache.capacity_rows(layer, head) - cache.rows(layer, head))
        return false;
  return true;
}

std::uint32_t drop_rows(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                        std::span<const std::int32_t> positions) {
  const std::uint32_t rows = cache.rows(layer, kv_head);
  row_lists lists(cache, layer, kv_head, true);
  const std::int32_t* const first = cache.positions(layer, kv_head);
  std::uint32_t dropped = 0;
  std::uint32_t kept_from = 0;  // rows from here on still lie `dropped` too far back
  for (const std::int32_t position : positions) {
    const auto row =
        static_cast<std::uint32_t>(std::lower_bound(first + kept_from, first + rows, position) - first);
    if (row == rows || first[row] != position) continue;
    if (dropped > 0) lists.move(kept_from, kept_from - dropped, row - kept_from);
    kept_from = row + 1;
    ++dropped;
  }
  if (dropped > 0) lists.move(kept_from, kept_from - dropped, rows - kept_from);
  cache.set_rows(layer, kv_head, rows - dropped);
  return dropped;
}

void open_slots(kv_cache& cache, std::uint32_t layer, std::uint32_t kv_head,
                std::span<const std::int32_t> positions, std::span<const std::int32_t> segments,
                std::span<std::uint32_t> slots) {
  if (positions.empty()) return;
  if (behind_all_rows(cache, layer, kv_head, positions.front()))
    append_rows(cache, layer, kv_head, positions, segments, slots);
  else
    merge_rows(cache, layer, kv_head, positions, segments, slots);
}

}  // namespace weft::engine
