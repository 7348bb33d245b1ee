// One block of prefill attention, tile by tile; where columns are counted, the scores of those stay until the
// softmax over them is known.
#if defined(WEFT_KERNELS_PREFILL_BLOCK_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef WEFT_KERNELS_PREFILL_BLOCK_INL
#undef WEFT_KERNELS_PREFILL_BLOCK_INL
#else
#define WEFT_KERNELS_PREFILL_BLOCK_INL
#endif

#include <hwy/highway.h>

#include "cpu/attention-inl.hpp"
#include "cpu/prefill_block.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// One tile of keys as it lies in the block's scratch memory.
struct key_tile {
  std::size_t rows = 0;
  std::size_t subtiles = 0;  // with a row in them
  std::size_t packed = 0;    // those up to the last one that some line sees
  row_bounds bounds[subtiles_per_tile];
};

// What a tile's weights may sum up to in a lane before the line gets a new base.
constexpr float most_weight = 0x1p20F;

// A row of scores for each line: of one tile, or of all columns that are counted.
struct score_rows {
  float* scores = nullptr;
  std::size_t stride = 0;
};

// Keys and values that are read later.
struct stored_rows {
  const std::byte* k;
  const std::byte* v;  // or null
  std::size_t size_bytes;
  std::size_t bytes_at_a_time;
  std::size_t done_bytes = 0;

  HWY_INLINE void fetch_some() {
    const std::size_t end = std::min(size_bytes, done_bytes + bytes_at_a_time);
    for (; done_bytes < end; done_bytes += 64) {
      hwy::Prefetch(k + done_bytes);
      if (v != nullptr) hwy::Prefetch(v + done_bytes);
    }
  }
};

template <class Tiles>
class block_attention {
  using operand = typename Tiles::steps::operand;
  using weight = typename Tiles::weight;

 public:
  explicit block_attention(const prefill_block& block)
      : block_(block),
        memory_(block),
        head_dim_(block.shape->head_dim),
        columns_(padded_head_dim(head_dim_)),
        q_stride_(memory_.query_stride()),
        key_bytes_(head_dim_ * tile_columns * Tiles::steps::column_bytes / Tiles::steps::values),
        value_bytes_(columns_ * tile_columns * Tiles::steps::column_bytes / Tiles::steps::values) {}

  void attend_all() {
    load_queries();
    add_all_of(*block_.keys);
    store_results();
  }

  // Counted rows come before the others, so that the states give the logarithms of their softmax; a part of
  // the lines at a time, whose scores stay in the cache.
  void count_and_attend() {
    load_queries();
    const column_count& count = *block_.counting->count;
    add_rows(count.beside);
    for (std::size_t line = 0; line < block_.lines(); line += block_.counting->lines) {
      lines_ = {line, std::min(line + block_.counting->lines, block_.lines())};
      std::size_t column = 0;
      for (const row_range& range : count.counted) {
        keep_scores_from(column);
        add_rows(range);
        column += padded_columns(range);
      }
      keep_no_scores();
      count_columns(column);
    }
    if (block_.out == nullptr) return;
    lines_ = {0, block_.lines()};
    add_uncounted_rows();
    store_results();
  }

 private:
  operand* queries() { return reinterpret_cast<operand*>(memory_.queries); }
  weight* weights() { return reinterpret_cast<weight*>(memory_.weights); }

  void load_queries() {
    const float factor = block_.shape->scale * log2_e;
    for (std::size_t line = 0; line < block_.lines(); ++line) {
      store_query<Tiles>(block_.query(line), factor, head_dim_, queries() + line * q_stride_);
      memory_.positions[line] = block_.queries->positions[block_.row(line)];
      memory_.segments[line] = block_.queries->segments[block_.row(line)];
      memory_.bases[line] = hidden_score;
    }
    std::fill_n(memory_.totals, block_.lines() * most_lanes, 0.0F);
    std::fill_n(memory_.sums, block_.lines() * columns_, 0.0F);
  }

  float* totals(std::size_t line) { return memory_.totals + line * most_lanes; }
  float total(std::size_t line) {
    return hn::GetLane(hn::SumOfLanes(f32_tag(), hn::LoadU(f32_tag(), totals(line))));
  }

  void add_all_of(const prefill_kv_head& source) {
    if (source.before != nullptr) add_all_of(*source.before);
    source_ = &source;
    add_rows({0, source.rows});
  }

  void add_rows(const row_range& range) {
    const row_bounds all = bounds_of(memory_.positions + lines_.begin, memory_.segments + lines_.begin,
                                     lines_.end - lines_.begin);
    for (std::size_t first = range.begin; first < range.end; first += tile_keys) {
      const std::size_t end = std::min<std::size_t>(range.end, first + tile_keys);
      const key_tile tile = load_tile(first, end, all);
      if (tile.packed > 0 || kept_.scores != nullptr) {
        stored_rows next = rows_to_come(end, std::min<std::size_t>(range.end, end + tile_keys));
        for (std::size_t line = lines_.begin; line < lines_.end; line += tile_rows) {
          next.fetch_some();
          attend(line, tile);
        }
      }
      if (kept_.scores != nullptr) kept_.scores += tile_keys;
    }
  }

  // Those of the next tile come into the cache while this one is multiplied, some for each register tile.
  stored_rows rows_to_come(std::size_t first, std::size_t end) const {
    const std::size_t row_bytes = code_bytes(source_->coding, block_.shape->kv_dtype, head_dim_);
    const std::size_t tiles = (lines_.end - lines_.begin + tile_rows - 1) / tile_rows;
    const std::size_t size_bytes = (end - first) * row_bytes;
    return {.k = source_->k + first * row_bytes,
            .v = block_.out == nullptr ? nullptr : source_->v + first * row_bytes,
            .size_bytes = size_bytes,
            .bytes_at_a_time = round_to_lines(size_bytes / tiles + 1)};
  }

  // What lies between the counted ranges.
  void add_uncounted_rows() {
    const column_count& count = *block_.counting->count;
    row_range ranges[] = {
        count.counted[0], count.counted[1], count.beside, {block_.keys->rows, block_.keys->rows}};
    std::ranges::sort(ranges, {}, &row_range::begin);
    std::uint32_t begin = 0;
    for (const row_range& range : ranges) {
      if (begin < range.begin) add_rows({begin, range.begin});
      begin = std::max(begin, range.end);
    }
  }

  void keep_scores_from(std::size_t column) {
    kept_ = {block_.counting->scores + column, block_.counting->score_stride};
  }
  void keep_no_scores() { kept_ = {}; }

  // The largest of each column's scores over the lines of a query head, less the line's logarithm.
  void count_columns(std::size_t columns) {
    const column_block& counting = *block_.counting;
    for (std::size_t line = lines_.begin; line < lines_.end; ++line)
      counting.log_sums[line - lines_.begin] = log_sum(line);
    for (std::size_t g = 0; g < block_.group; ++g) {
      std::size_t line = (g + block_.group - lines_.begin % block_.group) % block_.group;
      const std::size_t end = lines_.end - lines_.begin;
      for (; line + 3 * block_.group < end; line += 4 * block_.group)
        count_lines<4>(g, line, columns);
      for (; line < end; line += block_.group)
        count_lines<1>(g, line, columns);
    }
  }

  // Of some lines of query head g of the group, along the rows of scores: those come from far.
  template <int lines>
  void count_lines(std::size_t g, std::size_t line, std::size_t columns) {
    const f32_tag tag;
    const column_block& counting = *block_.counting;
    const float* scores[lines];
    f32_vector bases[lines];
    for (int i = 0; i < lines; ++i, line += block_.group) {
      scores[i] = counting.scores + line * counting.score_stride;
      bases[i] = hn::Set(tag, counting.log_sums[line]);
    }
    float* const out = counting.largest + g * counting.score_stride;
    for (std::size_t column = 0; column < columns; column += lanes) {
      f32_vector largest = hn::LoadU(tag, out + column);
      for (int i = 0; i < lines; ++i)
        largest = hn::Max(largest, hn::Sub(hn::LoadU(tag, scores[i] + column), bases[i]));
      hn::StoreU(largest, tag, out + column);
    }
  }

  // Base 2. So large for a line that is not counted or saw nothing that it has no part in any column.
  float log_sum(std::size_t line) {
    const column_count& count = *block_.counting->count;
    if (block_.row(line) < count.first_query || memory_.bases[line] < nothing_seen) return -hidden_score;
    const float more = count.log_weights.empty() ? 0.0F : count.log_weights[block_.row(line)];
    return memory_.bases[line] + std::log2(total(line)) + more * log2_e;
  }

  // Packs the subtiles of rows [first, end) that any line of the block sees.
  key_tile load_tile(std::size_t first, std::size_t end, const row_bounds& lines) {
    const prefill_kv_head& source = *source_;
    key_tile tile;
    tile.rows = end - first;
    tile.subtiles = (tile.rows + tile_columns - 1) / tile_columns;
    for (std::size_t i = 0; i < tile.subtiles; ++i) {
      const std::size_t begin = first + i * tile_columns;
      const std::size_t count = std::min<std::size_t>(tile_columns, end - begin);
      tile.bounds[i] = load_coordinates(begin, count, i * tile_columns);
      if (visible(lines, tile.bounds[i]) == visibility::none) continue;
      tile.packed = i + 1;
      Tiles::pack_keys(rows_at(source.k, source.k_scales, begin, count), count, head_dim_,
                       memory_.keys + i * key_bytes_);
      if (block_.out == nullptr) continue;
      Tiles::pack_values(rows_at(source.v, source.v_scales, begin, count), count, head_dim_, columns_,
                         memory_.values + i * value_bytes_);
    }
    return tile;
  }

  // Rows of the shape's dtype: in place, or decoded into memory that the next call uses again.
  const std::byte* rows_at(const std::byte* first, const std::uint16_t* scales, std::size_t row,
                           std::size_t count) const {
    const row_codec coding = source_->coding;
    const dtype type = block_.shape->kv_dtype;
    const std::byte* const codes = first + row * code_bytes(coding, type, head_dim_);
    if (coding == row_codec::raw) return codes;
    decode_rows(coding, codes, scales + row * scales_per_row(coding, head_dim_), count, head_dim_, type,
                memory_.decoded);
    return memory_.decoded;
  }

  // Columns beyond the last row get a position that no query reaches.
  row_bounds load_coordinates(std::size_t first, std::size_t count, std::size_t column) {
    std::int32_t* positions = memory_.key_positions + column;
    std::int32_t* segments = memory_.key_segments + column;
    std::copy_n(source_->positions + first, count, positions);
    std::copy_n(source_->segments + first, count, segments);
    std::fill(positions + count, positions + tile_columns, std::numeric_limits<std::int32_t>::max());
    std::fill(segments + count, segments + tile_columns, segments[0]);
    return bounds_of(positions, segments, count);
  }

  void attend(std::size_t line, const key_tile& tile) {
    static_assert(tile_rows == 6);
    switch (std::min(tile_rows, lines_.end - line)) {
      case 1:
        return attend_lines<1>(line, tile);
      case 2:
        return attend_lines<2>(line, tile);
      case 3:
        return attend_lines<3>(line, tile);
      case 4:
        return attend_lines<4>(line, tile);
      case 5:
        return attend_lines<5>(line, tile);
      default:
        return attend_lines<6>(line, tile);
    }
  }

  // A tile that all lines see whole is weighed in registers, in the order of sums of every other.
  template <int lines>
  void attend_lines(std::size_t line, const key_tile& tile) {
    const row_bounds bounds = bounds_of(memory_.positions + line, memory_.segments + line, lines);
    const score_rows kept{kept_.scores + (line - lines_.begin) * kept_.stride, kept_.stride};
    visibility sights[subtiles_per_tile];
    subtile_list seen{};
    bool whole = true;
    for (std::size_t i = 0; i < tile.subtiles; ++i) {
      sights[i] = i < tile.packed ? visible(bounds, tile.bounds[i]) : visibility::none;
      if (sights[i] != visibility::none) seen.index[seen.count++] = static_cast<std::uint8_t>(i);
      whole = whole && sights[i] == visibility::all;
    }
    float factors[lines];
    if (whole && weigh_scored<lines>(line, tile)) {
      std::fill_n(factors, lines, 1.0F);
    } else {
      const score_rows to = kept_.scores == nullptr ? score_rows{memory_.scores, tile_keys} : kept;
      score_lines<lines>(line, tile, sights, to);
      if (seen.count == 0) return;
      for (int i = 0; i < lines; ++i)
        factors[i] = weigh(line + i, to.scores + i * to.stride, seen, weights() + i * tile_keys);
    }
    if (block_.out == nullptr) return;
    add_values<Tiles, lines>(weights(), tile_keys, tile.rows, seen, memory_.values, value_bytes_, columns_,
                             factors, memory_.sums + line * columns_);
  }

  // Scores and weights of whole subtiles relative to the bases that the lines have; false if one of the lines
  // needs another: then nothing was added.
  template <int lines>
  HWY_INLINE bool weigh_scored(std::size_t line, const key_tile& tile) {
    const f32_tag tag;
    const float* const bases = memory_.bases + line;
    for (int i = 0; i < lines; ++i)
      if (bases[i] < nothing_seen) return false;
    const operand* const q = queries() + line * q_stride_;
    f32_vector sums[lines];
    for (int i = 0; i < lines; ++i)
      sums[i] = hn::Zero(tag);
    for (std::size_t column = 0; column < tile.subtiles * tile_columns; column += group_columns) {
      accumulators acc[lines];
      score_group<Tiles, lines>(q, q_stride_,
                                memory_.keys + column / tile_columns * key_bytes_ +
                                    column % tile_columns * Tiles::steps::column_bytes,
                                head_dim_, acc);
      if (tile.rows < column + group_columns)
        hide_behind<lines>(tile.rows - std::min(tile.rows, column), acc);
      if (kept_.scores != nullptr)
        for (int i = 0; i < lines; ++i)
          store_scores(acc[i], kept_.scores + (line + i - lines_.begin) * kept_.stride + column);
#pragma GCC unroll 6
      for (int i = 0; i < lines; ++i)
        sums[i] = hn::Add(
            sums[i], weigh_group<Tiles>(acc[i], hn::Set(tag, bases[i]), weights() + i * tile_keys + column));
    }
    for (int i = 0; i < lines; ++i)
      if (!within_bound(sums[i])) return false;
    for (int i = 0; i < lines; ++i)
      hn::StoreU(hn::Add(hn::LoadU(tag, totals(line + i)), sums[i]), tag, totals(line + i));
    return true;
  }

  template <int lines>
  void score_lines(std::size_t line, const key_tile& tile, const visibility* sights, const score_rows& to) {
    for (std::size_t i = 0; i < tile.subtiles; ++i) {
      const std::size_t column = i * tile_columns;
      float* const scores = to.scores + column;
      if (sights[i] == visibility::none) {
        if (kept_.scores != nullptr) hide_subtile<lines>(scores, to.stride);
        continue;
      }
      score_keys<Tiles, lines>(queries() + line * q_stride_, q_stride_, memory_.keys + i * key_bytes_,
                               head_dim_, scores, to.stride);
      const bool partial = tile.rows < (i + 1) * tile_columns;
      if (sights[i] == visibility::some || partial)
        hide_keys<lines>(memory_.positions + line, memory_.segments + line, memory_.key_positions + column,
                         memory_.key_segments + column, scores, to.stride);
    }
  }

  // Turns a line's scores into weights and returns the factor for what was summed before. They are relative
  // to the base that the line has, unless one of them is too far above it: then the largest is the new base.
  HWY_INLINE float weigh(std::size_t line, const float* scores, const subtile_list& seen, weight* weights) {
    const f32_tag tag;
    float& base = memory_.bases[line];
    if (base > nothing_seen) {
      const f32_vector sums = weigh_subtiles<Tiles>(scores, seen, hn::Set(tag, base), weights);
      if (within_bound(sums)) {
        hn::StoreU(hn::Add(hn::LoadU(tag, totals(line)), sums), tag, totals(line));
        return 1.0F;
      }
    }
    const float largest = largest_score(scores, seen);
    const float before = std::exchange(base, std::max(base, largest));
    // Of a line that has seen nothing yet every weight is zero, whatever is subtracted.
    const f32_vector subtracted = hn::Set(tag, base < nothing_seen ? 0.0F : base);
    const f32_vector factor = exp2_of<false>(hn::Sub(hn::Set(tag, before), subtracted));
    const f32_vector sums = weigh_subtiles<Tiles>(scores, seen, subtracted, weights);
    hn::StoreU(hn::MulAdd(hn::LoadU(tag, totals(line)), factor, sums), tag, totals(line));
    return hn::GetLane(factor);
  }

  // Columns of a group from `rows` on.
  template <int lines>
  static HWY_INLINE void hide_behind(std::size_t rows, accumulators* acc) {
    const f32_tag tag;
    for (int v = 0; v < tile_vectors; ++v) {
      const std::size_t first = v * lanes;
      const auto present = hn::FirstN(tag, rows > first ? rows - first : 0);
      for (int i = 0; i < lines; ++i)
        acc[i][v] = hn::IfThenElse(present, acc[i][v], hn::Set(tag, hidden_score));
    }
  }

  static bool within_bound(f32_vector sums) {
    return hn::AllTrue(f32_tag(), hn::Le(sums, hn::Set(f32_tag(), most_weight)));
  }

  template <int lines>
  static void hide_subtile(float* scores, std::size_t stride) {
    for (int i = 0; i < lines; ++i)
      std::fill_n(scores + i * stride, tile_columns, hidden_score);
  }

  void store_results() {
    for (std::size_t line = 0; line < block_.lines(); ++line) {
      const float sum = total(line);
      const float factor = sum > 0.0F ? 1.0F / sum : 0.0F;
      const float* sums = memory_.sums + line * columns_;
      float* out = block_.result(line);
      for (std::size_t d = 0; d < head_dim_; ++d)
        out[d] = sums[d] * factor;
    }
  }

  const prefill_block& block_;
  const prefill_memory memory_;
  const std::size_t head_dim_;
  const std::size_t columns_;
  const std::size_t q_stride_;
  const std::size_t key_bytes_;
  const std::size_t value_bytes_;
  struct {
    std::size_t begin, end;
  } lines_{0, block_.lines()};                   // that rows are added to
  const prefill_kv_head* source_ = block_.keys;  // where they come from
  score_rows kept_;                              // where the scores of the tile at hand stay, if they do
};

// Calls `use` with the attention of a block.
template <class Use>
void with_block(const prefill_block& block, const Use& use) {
#if WEFT_KERNELS_NATIVE_BF16
  if (dense_operand_dtype(block.shape->allowed, block.shape->kv_dtype) == dtype::bf16)
    return use(block_attention<bf16_tiles>(block));
#endif
  switch (block.shape->kv_dtype) {
    case dtype::bf16:
      return use(block_attention<f32_tiles<bf16_elements>>(block));
    case dtype::f16:
      return use(block_attention<f32_tiles<f16_elements>>(block));
    default:
      return use(block_attention<f32_tiles<f32_elements>>(block));
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
