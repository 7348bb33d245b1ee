#include <weft/kernels/attention_columns.hpp>

#include "cpu/column_task.hpp"
#include "cpu/prefill_block.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_columns.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

template <class Tiles>
class column_attention {
  using operand = typename Tiles::steps::operand;
  static constexpr int tile_lines = static_cast<int>(tile_rows);

 public:
  explicit column_attention(const column_task& task)
      : task_(task),
        lines_(*task.lines),
        memory_(task.shape->head_dim, task.lines->group, task.scratch),
        head_dim_(task.shape->head_dim),
        key_bytes_(head_dim_ * tile_columns * Tiles::steps::column_bytes / Tiles::steps::values),
        queries_(reinterpret_cast<const operand*>(lines_.queries + task.kv_head * lines_.query_bytes())) {}

  // Pass A over lines [first, end).
  void sum_lines() {
    const row_bounds all =
        bounds_of(lines_.positions + task_.first, lines_.segments + task_.first, task_.end - task_.first);
    line_state states[most_lines];
    for (std::size_t line = task_.first; line < task_.end; ++line)
      states[line - task_.first] = before(line);
    for (std::size_t first = 0; first < task_.keys->rows; first += tile_keys) {
      load_tile(first, all);
      for (std::size_t line = task_.first; line < task_.end; line += tile_rows) {
        const subtile_list seen = score_lines(line);
        if (seen.count == 0) continue;
        for (std::size_t i = 0; i < tile_rows; ++i)
          weigh_scores<Tiles>(memory_.scores + i * tile_keys, seen,
                              largest_score(memory_.scores + i * tile_keys, seen), weights(),
                              states[line + i - task_.first]);
      }
    }
    for (std::size_t line = task_.first; line < task_.end; ++line) {
      const line_state& state = states[line - task_.first];
      task_.out[line] = state.sum > 0.0F && state.maximum > nothing_seen
                            ? state.maximum + std::log2(state.sum)
                            : hidden_score;
    }
  }

  // Pass B over the tile of keys from `first` on.
  void reduce_columns() {
    load_tile(task_.first, bounds_of(lines_.positions, lines_.segments, lines_.count));
    const bool sums = task_.statistic == column_statistic::sum;
    std::fill_n(memory_.columns, lines_.group * tile_keys, sums ? 0.0F : hidden_score);
    if (subtiles_ > 0)
      for (std::size_t line = 0; line < lines_.count; line += tile_rows)
        sums ? reduce_lines<column_statistic::sum>(line) : reduce_lines<column_statistic::largest_log>(line);
    store_columns(std::min<std::size_t>(tile_keys, task_.keys->rows - task_.first));
  }

  static constexpr std::size_t most_lines = 40 * tile_rows;

 private:
  using weight = typename Tiles::weight;
  weight* weights() { return reinterpret_cast<weight*>(memory_.weights); }

  line_state before(std::size_t line) const {
    if (!task_.merge || task_.out[line] < nothing_seen) return {hidden_score, 0.0F};
    return {task_.out[line], 1.0F};
  }

  // Packs the subtiles that any of the lines sees.
  void load_tile(std::size_t first, const row_bounds& lines) {
    const prefill_kv_head& source = *task_.keys;
    const std::size_t rows = std::min<std::size_t>(tile_keys, source.rows - first);
    subtiles_ = 0;
    for (std::size_t i = 0; i * tile_columns < rows; ++i) {
      const std::size_t begin = first + i * tile_columns;
      const std::size_t count = std::min<std::size_t>(tile_columns, source.rows - begin);
      bounds_[i] = load_coordinates(begin, count, i * tile_columns);
      if (visible(lines, bounds_[i]) == visibility::none) continue;
      subtiles_ = i + 1;
      Tiles::pack_keys(source.k + begin * head_dim_ * size_bytes(task_.shape->kv_dtype), count, head_dim_,
                       memory_.keys + i * key_bytes_);
    }
  }

  // Columns beyond the last row get a position that no query reaches.
  row_bounds load_coordinates(std::size_t first, std::size_t count, std::size_t column) {
    std::int32_t* positions = memory_.positions + column;
    std::int32_t* segments = memory_.segments + column;
    std::copy_n(task_.keys->positions + first, count, positions);
    std::copy_n(task_.keys->segments + first, count, segments);
    std::fill(positions + count, positions + tile_columns, std::numeric_limits<std::int32_t>::max());
    std::fill(segments + count, segments + tile_columns, segments[0]);
    return bounds_of(positions, segments, tile_columns);
  }

  // The scores of one register tile of lines, in base 2, and the subtiles that it sees.
  subtile_list score_lines(std::size_t line) {
    const row_bounds bounds = bounds_of(lines_.positions + line, lines_.segments + line, tile_rows);
    subtile_list seen{};
    for (std::size_t i = 0; i < subtiles_; ++i) {
      const visibility sight = visible(bounds, bounds_[i]);
      if (sight == visibility::none) continue;
      seen.index[seen.count++] = static_cast<std::uint8_t>(i);
      const std::size_t column = i * tile_columns;
      score_keys<Tiles, tile_lines>(queries_ + line * lines_.q_stride, lines_.q_stride,
                                    memory_.keys + i * key_bytes_, head_dim_, memory_.scores + column,
                                    tile_keys);
      if (sight == visibility::some)
        hide_keys<tile_lines>(lines_.positions + line, lines_.segments + line, memory_.positions + column,
                              memory_.segments + column, memory_.scores + column, tile_keys);
    }
    return seen;
  }

  template <column_statistic statistic>
  void reduce_lines(std::size_t first) {
    const f32_tag tag;
    const subtile_list seen = score_lines(first);
    const float* log_sums = lines_.log_sums + task_.kv_head * lines_.padded;
    for (std::size_t line = first; line < std::min(first + tile_rows, lines_.count); ++line) {
      const f32_vector base = hn::Set(tag, log_sums[line]);
      const float* scores = memory_.scores + (line - first) * tile_keys;
      float* columns = memory_.columns + line % lines_.group * tile_keys;
      for (std::size_t i = 0; i < seen.count; ++i) {
        const std::size_t begin = seen.index[i] * tile_columns;
        for (std::size_t column = begin; column < begin + tile_columns; column += lanes) {
          const f32_vector share = hn::Sub(hn::LoadU(tag, scores + column), base);
          const f32_vector old = hn::LoadU(tag, columns + column);
          const f32_vector updated = statistic == column_statistic::sum
                                         ? hn::Add(old, exp2_of<Tiles::quick_exponential>(share))
                                         : hn::Max(old, share);
          hn::StoreU(updated, tag, columns + column);
        }
      }
    }
  }

  void store_columns(std::size_t rows) {
    constexpr float ln_2 = 0.693147181F;
    for (std::size_t g = 0; g < lines_.group; ++g) {
      const float* columns = memory_.columns + g * tile_keys;
      float* out = task_.out + g * task_.out_stride + task_.first;
      for (std::size_t i = 0; i < rows; ++i)
        out[i] = task_.statistic == column_statistic::sum ? out[i] + columns[i]
                                                          : std::max(out[i], columns[i] * ln_2);
    }
  }

  const column_task& task_;
  const column_lines& lines_;
  const column_memory memory_;
  const std::size_t head_dim_;
  const std::size_t key_bytes_;
  const operand* const queries_;
  std::size_t subtiles_ = 0;
  row_bounds bounds_[subtiles_per_tile] = {};
};

// Calls `use` with the tiles of a shape.
template <class Use>
void with_tiles(const attention_shape& shape, const Use& use) {
#if WEFT_KERNELS_NATIVE_BF16
  if (dense_operand_dtype(shape.allowed, shape.kv_dtype) == dtype::bf16) return use(bf16_tiles());
#endif
  switch (shape.kv_dtype) {
    case dtype::bf16:
      return use(f32_tiles<bf16_elements>());
    case dtype::f16:
      return use(f32_tiles<f16_elements>());
    default:
      return use(f32_tiles<f32_elements>());
  }
}

void store_column_query(const attention_shape& shape, const float* q, std::byte* out) {
  with_tiles(shape, [&](auto tiles) {
    using Tiles = decltype(tiles);
    store_query<Tiles>(q, shape.scale * log2_e, shape.head_dim,
                       reinterpret_cast<typename Tiles::query_elements::storage*>(out));
  });
}

void sum_lines(const column_task& task) {
  with_tiles(*task.shape, [&](auto tiles) { column_attention<decltype(tiles)>(task).sum_lines(); });
}

void reduce_columns(const column_task& task) {
  with_tiles(*task.shape, [&](auto tiles) { column_attention<decltype(tiles)>(task).reduce_columns(); });
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(store_column_query);
HWY_EXPORT(sum_lines);
HWY_EXPORT(reduce_columns);

namespace {

constexpr std::size_t lines_per_task = 40 * tile_rows;

void check(const attention_shape& shape, std::span<const prefill_kv_head> heads) {
  const bool grouped = shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0;
  if (!std::ranges::all_of(heads, [](const auto& head) { return head.coding == row_codec::raw; }))
    throw std::invalid_argument("attention_columns: raw rows only");
  if (!grouped || heads.size() != shape.kv_heads)
    throw std::invalid_argument("attention_columns: one row list per KV head, whole groups of query heads");
  if (shape.head_dim == 0 || shape.head_dim % 2 != 0 || shape.head_dim > max_head_dim)
    throw std::invalid_argument("attention_columns: head_dim must be even and at most 512");
}

// The scratch memory of a call: the lines, and behind them what each worker needs.
class call_memory {
 public:
  call_memory(const attention_shape& shape, const prefill_queries& queries, workspace& scratch,
              thread_pool& pool)
      : shape_(shape), queries_(queries) {
    lines_.group = shape.query_heads / shape.kv_heads;
    lines_.count = queries.rows * lines_.group;
    lines_.padded = (lines_.count + tile_rows - 1) / tile_rows * tile_rows;
    lines_.q_stride = shape.head_dim + 32;  // lines of a register tile do not share cache sets
    worker_bytes_ = column_memory::size_bytes(shape.head_dim, lines_.group);
    const std::size_t query_bytes = round_to_lines(shape.kv_heads * lines_.query_bytes());
    const std::size_t ids_bytes = round_to_lines(lines_.padded * sizeof(std::int32_t));
    const std::size_t sums_bytes = round_to_lines(shape.kv_heads * lines_.padded * sizeof(float));
    std::byte* next =
        scratch.reserve(query_bytes + 2 * ids_bytes + sums_bytes + pool.threads() * worker_bytes_).data();
    lines_.queries = next;
    lines_.positions = reinterpret_cast<std::int32_t*>(next += query_bytes);
    lines_.segments = reinterpret_cast<std::int32_t*>(next += ids_bytes);
    lines_.log_sums = reinterpret_cast<float*>(next += ids_bytes);
    workers_ = next + sums_bytes;
    store_lines(pool);
  }

  const column_lines& lines() const { return lines_; }
  std::byte* worker(unsigned index) const { return workers_ + index * worker_bytes_; }

  // What the caller has by [row][query_head] is here by [kv_head][line]: calls `use(caller's, ours)`.
  template <class Use>
  void each_sum(const Use& use) const {
    for (std::size_t head = 0; head < shape_.kv_heads; ++head)
      for (std::size_t line = 0; line < lines_.count; ++line)
        use(line / lines_.group * shape_.query_heads + head * lines_.group + line % lines_.group,
            lines_.log_sums[head * lines_.padded + line]);
  }

 private:
  void store_lines(thread_pool& pool) {
    auto* const store = &HWY_DYNAMIC_DISPATCH(store_column_query);
    const std::size_t line_bytes =
        lines_.q_stride *
        (dense_operand_dtype(shape_.allowed, shape_.kv_dtype) == dtype::bf16 ? 2 : sizeof(float));
    pool.parallel_for(shape_.kv_heads, [&](std::size_t head, unsigned) {
      std::byte* const out = lines_.queries + head * lines_.query_bytes();
      std::fill(out + lines_.count * line_bytes, out + lines_.padded * line_bytes, std::byte{0});
      for (std::size_t line = 0; line < lines_.count; ++line)
        store(shape_,
              queries_.q + line / lines_.group * queries_.row_stride +
                  (head * lines_.group + line % lines_.group) * shape_.head_dim,
              out + line * line_bytes);
    });
    for (std::size_t line = 0; line < lines_.padded; ++line) {
      const bool real = line < lines_.count;
      lines_.positions[line] =
          real ? queries_.positions[line / lines_.group] : std::numeric_limits<std::int32_t>::min();
      lines_.segments[line] = queries_.segments[std::min(line, lines_.count - 1) / lines_.group];
    }
  }

  const attention_shape& shape_;
  const prefill_queries& queries_;
  column_lines lines_;
  std::size_t worker_bytes_ = 0;
  std::byte* workers_ = nullptr;
};

}  // namespace

void attention_log_sums(const attention_shape& shape, const prefill_queries& queries,
                        std::span<const prefill_kv_head> heads, bool merge, std::span<float> out,
                        workspace& scratch, thread_pool& pool) {
  check(shape, heads);
  if (queries.rows == 0) return;
  const call_memory memory(shape, queries, scratch, pool);
  const column_lines& lines = memory.lines();
  std::fill_n(lines.log_sums, shape.kv_heads * lines.padded, hidden_score);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  if (merge)
    memory.each_sum(
        [&](std::size_t i, float& sum) { sum = out[i] == -infinity ? hidden_score : out[i] * log2_e; });
  const std::size_t tasks = (lines.padded + lines_per_task - 1) / lines_per_task;
  auto* const run = &HWY_DYNAMIC_DISPATCH(sum_lines);
  pool.parallel_for(tasks * heads.size(), [&](std::size_t index, unsigned worker) {
    column_task task;
    task.shape = &shape;
    task.kv_head = index % heads.size();
    task.keys = &heads[task.kv_head];
    task.lines = &lines;
    // Later rows see more keys: they go first.
    task.first = (tasks - 1 - index / heads.size()) * lines_per_task;
    task.end = std::min(task.first + lines_per_task, lines.padded);
    task.merge = merge;
    task.out = lines.log_sums + task.kv_head * lines.padded;
    task.scratch = memory.worker(worker);
    run(task);
  });
  memory.each_sum(
      [&](std::size_t i, const float& sum) { out[i] = sum < nothing_seen ? -infinity : sum / log2_e; });
}

void attention_columns(const attention_shape& shape, const prefill_queries& queries,
                       std::span<const prefill_kv_head> heads, std::span<const float> log_sums,
                       column_statistic statistic, float* out, std::size_t out_stride, workspace& scratch,
                       thread_pool& pool) {
  check(shape, heads);
  if (queries.rows == 0) return;
  const call_memory memory(shape, queries, scratch, pool);
  const column_lines& lines = memory.lines();
  // A line that sees nothing has no part in any column.
  memory.each_sum([&](std::size_t i, float& sum) {
    sum = log_sums[i] == -std::numeric_limits<float>::infinity() ? -hidden_score : log_sums[i] * log2_e;
  });
  std::size_t most_rows = 0;
  for (const prefill_kv_head& head : heads)
    most_rows = std::max<std::size_t>(most_rows, head.rows);
  const std::size_t tiles = (most_rows + tile_keys - 1) / tile_keys;
  auto* const run = &HWY_DYNAMIC_DISPATCH(reduce_columns);
  pool.parallel_for(tiles * heads.size(), [&](std::size_t index, unsigned worker) {
    column_task task;
    task.shape = &shape;
    task.kv_head = index % heads.size();
    task.keys = &heads[task.kv_head];
    task.lines = &lines;
    task.first = index / heads.size() * tile_keys;
    if (task.first >= task.keys->rows) return;
    task.statistic = statistic;
    task.out = out + task.kv_head * lines.group * out_stride;
    task.out_stride = out_stride;
    task.scratch = memory.worker(worker);
    run(task);
  });
}

}  // namespace weft::kernels
#endif
