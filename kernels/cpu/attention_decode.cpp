#include <weft/kernels/attention_decode.hpp>

#include "cpu/attention_layout.hpp"
#include "cpu/decode_piece.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/attention_decode.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/attention-inl.hpp"
#include "cpu/coded_decode-inl.hpp"
#include "cpu/grouped_decode-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

template <class Tiles>
class piece_attention {
  using operand = typename Tiles::steps::operand;
  using weight = typename Tiles::weight;

 public:
  explicit piece_attention(const decode_piece& piece)
      : piece_(piece),
        head_dim_(piece.shape->head_dim),
        columns_(padded_head_dim(head_dim_)),
        memory_(piece.group, head_dim_, piece.scratch),
        key_bytes_(head_dim_ * tile_columns * Tiles::steps::column_bytes / Tiles::steps::values),
        value_bytes_(columns_ * tile_columns * Tiles::steps::column_bytes / Tiles::steps::values) {}

  void run() {
    load_queries();
    const std::size_t row_bytes = head_dim_ * size_bytes(piece_.shape->kv_dtype);
    run_cursor cursor(piece_);
    for (std::uint32_t row = 0; row < piece_.rows; row += tile_keys) {
      const std::uint32_t rows = std::min<std::uint32_t>(tile_keys, piece_.rows - row);
      const subtile_list tile = load_tile(cursor, rows, row_bytes);
      for (std::size_t line = 0; line < piece_.group; line += tile_rows)
        attend(line, tile, rows);
    }
  }

 private:
  operand* queries() { return reinterpret_cast<operand*>(memory_.queries); }
  weight* weights() { return reinterpret_cast<weight*>(memory_.weights); }

  void load_queries() {
    const float factor = piece_.shape->scale * log2_e;
    store_query<Tiles>(piece_.head->q, factor, piece_.group * head_dim_, queries());
    std::fill_n(piece_.result.maxima, piece_.group, hidden_score);
    std::fill_n(piece_.result.weights, piece_.group, 0.0F);
    std::fill_n(piece_.result.sums, piece_.group * columns_, 0.0F);
  }

  subtile_list load_tile(run_cursor& cursor, std::uint32_t rows, std::size_t row_bytes) {
    subtile_list tile{};
    for (std::uint32_t row = 0; row < rows; row += tile_columns) {
      const std::uint32_t count = std::min<std::uint32_t>(tile_columns, rows - row);
      const auto source = cursor.next(count, memory_.gathered_keys, memory_.gathered_values);
      prefetch_next_tile(source, count * row_bytes, row_bytes);
      const std::size_t i = tile.count++;
      tile.index[i] = static_cast<std::uint8_t>(i);
      Tiles::pack_keys(source.k, count, head_dim_, memory_.keys + i * key_bytes_);
      Tiles::pack_values(source.v, count, head_dim_, columns_, memory_.values + i * value_bytes_);
    }
    return tile;
  }

  // The caches' own prefetchers stop at page ends. A prefetch beyond the rows does no harm.
  static void prefetch_next_tile(const run_cursor::rows_view& source, std::size_t size,
                                 std::size_t row_bytes) {
    const std::size_t ahead = tile_keys * row_bytes;
    for (std::size_t offset = 0; offset < size; offset += 64) {
      __builtin_prefetch(source.k + ahead + offset, 0, 2);
      __builtin_prefetch(source.v + ahead + offset, 0, 2);
    }
  }

  void attend(std::size_t line, const subtile_list& tile, std::uint32_t rows) {
    static_assert(tile_rows == 6);
    switch (std::min(tile_rows, piece_.group - line)) {
      case 1:
        return attend_lines<1>(line, tile, rows);
      case 2:
        return attend_lines<2>(line, tile, rows);
      case 3:
        return attend_lines<3>(line, tile, rows);
      case 4:
        return attend_lines<4>(line, tile, rows);
      case 5:
        return attend_lines<5>(line, tile, rows);
      default:
        return attend_lines<6>(line, tile, rows);
    }
  }

  template <int lines>
  void attend_lines(std::size_t line, const subtile_list& tile, std::uint32_t rows) {
    for (std::size_t i = 0; i < tile.count; ++i) {
      score_keys<Tiles, lines>(queries() + line * head_dim_, head_dim_, memory_.keys + i * key_bytes_,
                               head_dim_, memory_.scores + i * tile_columns, tile_keys);
    }
    float factors[lines];
    for (int i = 0; i < lines; ++i) {
      float* const scores = memory_.scores + i * tile_keys;
      std::fill(scores + rows, scores + tile.count * tile_columns, hidden_score);
      line_state state{piece_.result.maxima[line + i], piece_.result.weights[line + i]};
      factors[i] =
          weigh_scores<Tiles>(scores, tile, largest_score(scores, tile), weights() + i * tile_keys, state);
      piece_.result.maxima[line + i] = state.maximum;
      piece_.result.weights[line + i] = state.sum;
    }
    add_values<Tiles, lines>(weights(), tile_keys, rows, tile, memory_.values, value_bytes_, columns_,
                             factors, piece_.result.sums + line * columns_);
  }

  const decode_piece& piece_;
  const std::size_t head_dim_;
  const std::size_t columns_;
  const decode_memory memory_;
  const std::size_t key_bytes_;
  const std::size_t value_bytes_;
};

#if WEFT_KERNELS_NATIVE_BF16
// Calls `attend(attention, heads, first head)` for every four query heads of the group.
template <class Attention, class Attend>
void for_grouped_heads(const decode_piece& piece, const decode_memory& memory, const Attend& attend) {
  const std::size_t head_dim = piece.shape->head_dim;
  const float factor = piece.shape->scale * log2_e;
  for (std::size_t head = 0; head < piece.group; head += heads_at_once) {
    const std::size_t heads = std::min(heads_at_once, piece.group - head);
    float q[heads_at_once * max_head_dim] = {};
    for (std::size_t i = 0; i < heads * head_dim; ++i)
      q[i] = piece.head->q[head * head_dim + i] * factor;
    Attention attention(head_dim, q, memory.keys);
    attend(attention);
    attention.store(heads, head, piece.result);
  }
}

void attend_raw_part(const decode_piece& piece, const decode_memory& memory) {
  for_grouped_heads<grouped_decode>(piece, memory, [&](grouped_decode& attention) {
    run_cursor cursor(piece);
    for (std::uint32_t row = 0; row < piece.rows; row += grouped_tile_rows) {
      const auto rows = std::min<std::uint32_t>(grouped_tile_rows, piece.rows - row);
      const auto tile = cursor.next_padded(rows, static_cast<std::uint32_t>(padded_rows(rows)),
                                           memory.gathered_keys, memory.gathered_values);
      attention.attend(tile.k, tile.v, rows);
    }
  });
}

template <class Attention>
void attend_coded_part(const decode_piece& piece, const decode_memory& memory) {
  // Whoever had the rows before these is on another core: their first tile is asked for before the queries
  // are made ready.
  code_cursor(piece, Attention::coding, piece.first_row, memory.gathered_keys, memory.gathered_values)
      .prefetch(std::min<std::uint32_t>(coded_tile_rows, piece.rows));
  for_grouped_heads<Attention>(piece, memory, [&](Attention& attention) {
    code_cursor cursor(piece, Attention::coding, piece.first_row, memory.gathered_keys,
                       memory.gathered_values);
    for (std::uint32_t row = 0; row < piece.rows; row += coded_tile_rows) {
      const auto rows = std::min<std::uint32_t>(coded_tile_rows, piece.rows - row);
      attention.attend(cursor.next(rows, static_cast<std::uint32_t>(padded_rows(rows))), rows);
    }
  });
}

void attend_part(row_codec coding, const decode_piece& piece, const decode_memory& memory) {
  if (coding == row_codec::int8 && multiplies_bytes()) return attend_coded_part<int8_decode>(piece, memory);
  if (coding == row_codec::int4 && multiplies_bytes()) return attend_coded_part<int4_decode>(piece, memory);
  attend_raw_part(piece, memory);
}

void attend_grouped_piece(const decode_piece& piece) {
  const decode_memory memory(piece.group, piece.shape->head_dim, piece.scratch);
  codec_parts parts(piece);
  codec_parts::part part;
  for (bool first = true; parts.next(part); first = false) {
    decode_piece rows = piece;
    rows.first_row = part.first_row;
    rows.rows = part.rows;
    if (!first) rows.result = partial_result::at(memory.part_result, piece.group);
    attend_part(part.coding, rows, memory);
    if (!first) merge_result(piece.result, rows.result, piece.group, piece.shape->head_dim);
  }
}
#endif

void attend_piece(const decode_piece& piece) {
#if WEFT_KERNELS_NATIVE_BF16
  if (operand_dtype(piece.shape->allowed, piece.shape->kv_dtype) == dtype::bf16) {
    if (has_grouped_decode(piece.shape->head_dim)) return attend_grouped_piece(piece);
    return piece_attention<bf16_tiles>(piece).run();
  }
#endif
  switch (piece.shape->kv_dtype) {
    case dtype::bf16:
      return piece_attention<f32_tiles<bf16_elements>>(piece).run();
    case dtype::f16:
      return piece_attention<f32_tiles<f16_elements>>(piece).run();
    default:
      return piece_attention<f32_tiles<f32_elements>>(piece).run();
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(attend_piece);

namespace {

constexpr std::size_t counter_bytes(std::size_t heads) {
  return round_to_lines(heads * sizeof(std::uint32_t));
}

// The pieces of one head, each worth sums * 2^maximum, put together in order.
void merge_pieces(std::byte* first, std::size_t piece_bytes, std::size_t count, std::size_t group,
                  std::size_t head_dim, float* out) {
  std::fill_n(out, group * head_dim, 0.0F);
  const auto piece = [&](std::size_t i) { return partial_result::at(first + i * piece_bytes, group); };
  for (std::size_t line = 0; line < group; ++line) {
    float maximum = piece(0).maxima[line];
    for (std::size_t i = 1; i < count; ++i)
      maximum = std::max(maximum, piece(i).maxima[line]);
    float* const result = out + line * head_dim;
    float weight = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const float factor = std::exp2(piece(i).maxima[line] - maximum);
      const float* sums = piece(i).sums + line * padded_head_dim(head_dim);
      weight += piece(i).weights[line] * factor;
      for (std::size_t d = 0; d < head_dim; ++d)
        result[d] += sums[d] * factor;
    }
    for (std::size_t d = 0; d < head_dim; ++d)
      result[d] /= weight;
  }
}

// Neighbouring pieces are one worker's while there are enough for all: the end of one has asked memory for
// the beginning of the next.
std::size_t pieces_at_once(std::size_t pieces, unsigned threads) {
  constexpr std::size_t tasks_per_thread = 8;
  constexpr std::size_t most = 8;
  return std::clamp<std::size_t>(pieces / (tasks_per_thread * threads), 1, most);
}

}  // namespace

void decode_plan::assign(std::span<const std::uint32_t> rows, const attention_shape& shape) {
  const bool grouped = shape.kv_heads > 0 && shape.query_heads % shape.kv_heads == 0;
  if (!grouped || shape.head_dim == 0 || shape.head_dim % 2 != 0 || shape.head_dim > max_head_dim) {
    throw std::invalid_argument("decode_plan: whole groups of query heads, head_dim even and at most 512");
  }
  rows_.assign(rows.begin(), rows.end());
  pieces_.clear();
  first_piece_.clear();
  for (std::uint32_t head = 0; head < rows.size(); ++head) {
    first_piece_.push_back(static_cast<std::uint32_t>(pieces_.size()));
    for (std::uint32_t row = 0; row < rows[head]; row += rows_per_piece) {
      pieces_.push_back({head, row, std::min(rows_per_piece, rows[head] - row)});
    }
  }
  first_piece_.push_back(static_cast<std::uint32_t>(pieces_.size()));
  const std::size_t group = shape.query_heads / shape.kv_heads;
  scratch_bytes_ =
      counter_bytes(rows.size()) + pieces_.size() * partial_result::size_bytes(group, shape.head_dim);
}

void attention_decode(const attention_shape& shape, const decode_plan& plan,
                      std::span<const decode_head> heads, std::span<std::byte> scratch, thread_pool& pool) {
  if (heads.size() != plan.rows_.size() || scratch.size() < plan.scratch_bytes_) {
    throw std::invalid_argument("attention_decode: the plan was made for other heads or more scratch memory");
  }
  const std::size_t group = shape.query_heads / shape.kv_heads;
  const std::size_t worker_bytes = decode_memory::size_bytes(group, shape.head_dim);
  const std::size_t partial_bytes = partial_result::size_bytes(group, shape.head_dim);
  // Whoever finishes the last piece of a head puts its pieces together.
  auto* const unfinished = reinterpret_cast<std::uint32_t*>(scratch.data());
  std::byte* const partials = scratch.data() + counter_bytes(heads.size());
  for (std::size_t head = 0; head < heads.size(); ++head) {
    unfinished[head] = plan.first_piece_[head + 1] - plan.first_piece_[head];
    if (unfinished[head] == 0) std::fill_n(heads[head].out, group * shape.head_dim, 0.0F);
  }
  auto* const attend = &HWY_DYNAMIC_DISPATCH(attend_piece);
  const auto compute = [&](std::size_t index, unsigned worker) {
    const decode_plan::piece& planned = plan.pieces_[index];
    decode_piece piece{};
    piece.shape = &shape;
    piece.head = &heads[planned.head];
    piece.group = group;
    piece.first_row = planned.first_row;
    piece.rows = planned.rows;
    piece.scratch = pool.scratch(worker).reserve(worker_bytes).data();
    piece.result = partial_result::at(partials + index * partial_bytes, group);
    attend(piece);

    const std::atomic_ref left(unfinished[planned.head]);
    if (left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    const std::size_t first = plan.first_piece_[planned.head];
    merge_pieces(partials + first * partial_bytes, partial_bytes, plan.first_piece_[planned.head + 1] - first,
                 group, shape.head_dim, heads[planned.head].out);
  };
  const std::size_t pieces = plan.pieces_.size();
  const std::size_t at_once = pieces_at_once(pieces, pool.threads());
  pool.parallel_for((pieces + at_once - 1) / at_once, [&](std::size_t task, unsigned worker) {
    const std::size_t last = std::min(pieces, (task + 1) * at_once);
    for (std::size_t index = task * at_once; index < last; ++index)
      compute(index, worker);
  });
}

}  // namespace weft::kernels
#endif
