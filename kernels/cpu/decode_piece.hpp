// One task of decode attention: a group of query lines against some consecutive rows of a head.
#pragma once

#include <weft/kernels/attention_decode.hpp>

#include "cpu/attention_layout.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace weft::kernels {

// Rows per task. Fixed, so that results do not depend on who computes them; whole tiles.
inline constexpr std::uint32_t rows_per_piece = 8 * tile_keys;

inline constexpr std::size_t gathered_rows = std::max({tile_columns, grouped_tile_rows, coded_tile_rows});

// What a piece adds up: out[line] = sum over rows of 2^(score - maximum) * v, and the sum of the weights.
struct partial_result {
  float* maxima;   // [group]
  float* weights;  // [group]
  float* sums;     // [group][padded_head_dim]

  static std::size_t size_bytes(std::size_t group, std::size_t head_dim) {
    return round_to_lines(group * (2 + padded_head_dim(head_dim)) * sizeof(float));
  }
  static partial_result at(std::byte* memory, std::size_t group) {
    auto* const floats = reinterpret_cast<float*>(memory);
    return {floats, floats + group, floats + 2 * group};
  }
};

// Per worker: packed queries and tiles.
struct decode_memory {
  decode_memory(std::size_t group, std::size_t head_dim, std::byte* begin) : end_(begin) {
    queries = take(group * head_dim * sizeof(float));
    keys = take(subtiles_per_tile * key_subtile_bytes(head_dim));
    values = take(subtiles_per_tile * value_subtile_bytes(head_dim));
    gathered_keys = take(gathered_rows * head_dim * sizeof(float));
    gathered_values = take(gathered_rows * head_dim * sizeof(float));
    scores = reinterpret_cast<float*>(take(tile_rows * tile_keys * sizeof(float)));
    weights = take(tile_rows * tile_keys * sizeof(float));
    part_result = take(partial_result::size_bytes(group, head_dim));
  }

  static std::size_t size_bytes(std::size_t group, std::size_t head_dim) {
    std::byte* const nowhere = nullptr;
    return static_cast<std::size_t>(decode_memory(group, head_dim, nowhere).end_ - nowhere);
  }

  std::byte* queries;
  std::byte* keys;
  std::byte* values;
  std::byte* gathered_keys;
  std::byte* gathered_values;
  float* scores;
  std::byte* weights;
  std::byte* part_result;  // the result of rows in one codec, where a piece has several

 private:
  std::byte* take(std::size_t size_bytes) {
    std::byte* const part = end_;
    end_ += round_to_lines(size_bytes);
    return part;
  }

  std::byte* end_;
};

// Puts another result of the same lines into this one.
inline void merge_result(const partial_result& to, const partial_result& from, std::size_t group,
                         std::size_t head_dim) {
  const std::size_t columns = padded_head_dim(head_dim);
  for (std::size_t line = 0; line < group; ++line) {
    const float maximum = std::max(to.maxima[line], from.maxima[line]);
    const float factor = std::exp2(to.maxima[line] - maximum);
    const float other = std::exp2(from.maxima[line] - maximum);
    to.maxima[line] = maximum;
    to.weights[line] = to.weights[line] * factor + from.weights[line] * other;
    for (std::size_t d = 0; d < head_dim; ++d)
      to.sums[line * columns + d] =
          to.sums[line * columns + d] * factor + from.sums[line * columns + d] * other;
  }
}

struct decode_piece {
  const attention_shape* shape;
  const decode_head* head;
  std::size_t group;
  std::uint32_t first_row;
  std::uint32_t rows;
  std::byte* scratch;  // decode_memory
  partial_result result;
};

// Walks over the rows of a head, wherever its runs keep them, and gives them as rows of the shape's dtype.
class run_cursor {
 public:
  struct rows_view {
    const std::byte* k;
    const std::byte* v;
  };

  explicit run_cursor(const decode_piece& piece)
      : runs_(piece.head->runs),
        type_(piece.shape->kv_dtype),
        head_dim_(piece.shape->head_dim),
        row_bytes_(head_dim_ * size_bytes(type_)) {
    std::uint32_t first_row = piece.first_row;
    while (first_row >= runs_[run_].rows)
      first_row -= runs_[run_++].rows;
    row_ = first_row;
  }

  // The next `count` rows: in place where one raw run has them, else decoded and copied together.
  rows_view next(std::uint32_t count, std::byte* gathered_k, std::byte* gathered_v) {
    skip_finished_runs();
    if (runs_[run_].coding == row_codec::raw && runs_[run_].rows - row_ >= count) {
      const rows_view view = here();
      row_ += count;
      return view;
    }
    return gather(count, gathered_k, gathered_v);
  }

  // The same with zeros behind, `padded` rows in all.
  rows_view next_padded(std::uint32_t count, std::uint32_t padded, std::byte* gathered_k,
                        std::byte* gathered_v) {
    if (count == padded) return next(count, gathered_k, gathered_v);
    std::memset(gathered_k + count * row_bytes_, 0, (padded - count) * row_bytes_);
    std::memset(gathered_v + count * row_bytes_, 0, (padded - count) * row_bytes_);
    return gather(count, gathered_k, gathered_v);
  }

 private:
  rows_view gather(std::uint32_t count, std::byte* gathered_k, std::byte* gathered_v) {
    for (std::uint32_t done = 0; done < count;) {
      skip_finished_runs();
      const std::uint32_t some = std::min(count - done, runs_[run_].rows - row_);
      take(some, gathered_k + done * row_bytes_, gathered_v + done * row_bytes_);
      row_ += some;
      done += some;
    }
    return {gathered_k, gathered_v};
  }

  void take(std::uint32_t rows, std::byte* k, std::byte* v) const {
    const kv_run& run = runs_[run_];
    if (run.coding == row_codec::raw) {
      std::memcpy(k, here().k, rows * row_bytes_);
      std::memcpy(v, here().v, rows * row_bytes_);
      return;
    }
    const std::size_t codes = row_ * code_bytes(run.coding, type_, head_dim_);
    const std::size_t scales = row_ * scales_per_row(run.coding, head_dim_);
    decode_rows(run.coding, run.k + codes, run.k_scales + scales, rows, head_dim_, type_, k);
    decode_rows(run.coding, run.v + codes, run.v_scales + scales, rows, head_dim_, type_, v);
  }

  void skip_finished_runs() {
    while (row_ == runs_[run_].rows) {
      ++run_;
      row_ = 0;
    }
  }
  rows_view here() const { return {runs_[run_].k + row_ * row_bytes_, runs_[run_].v + row_ * row_bytes_}; }

  std::span<const kv_run> runs_;
  dtype type_;
  std::size_t head_dim_;
  std::size_t row_bytes_;
  std::size_t run_ = 0;
  std::uint32_t row_ = 0;
};

// Cuts a piece where the codec of its rows changes.
class codec_parts {
 public:
  explicit codec_parts(const decode_piece& piece) : piece_(piece), rows_left_(piece.rows) {
    std::uint32_t row = piece.first_row;
    while (row >= piece.head->runs[run_].rows)
      row -= piece.head->runs[run_++].rows;
    part_.first_row = piece.first_row;
    run_rows_left_ = piece.head->runs[run_].rows - row;
  }

  struct part {
    row_codec coding = row_codec::raw;
    std::uint32_t first_row = 0;
    std::uint32_t rows = 0;
  };

  bool next(part& out) {
    if (rows_left_ == 0) return false;
    skip_empty_runs();
    part_.coding = piece_.head->runs[run_].coding;
    part_.rows = 0;
    while (rows_left_ > 0) {
      skip_empty_runs();
      if (piece_.head->runs[run_].coding != part_.coding) break;
      const std::uint32_t some = std::min(rows_left_, run_rows_left_);
      part_.rows += some;
      rows_left_ -= some;
      run_rows_left_ -= some;
    }
    out = part_;
    part_.first_row += part_.rows;
    return true;
  }

 private:
  void skip_empty_runs() {
    while (run_rows_left_ == 0)
      run_rows_left_ = piece_.head->runs[++run_].rows;
  }

  const decode_piece& piece_;
  std::size_t run_ = 0;
  std::uint32_t run_rows_left_ = 0;
  std::uint32_t rows_left_;
  part part_;
};

// Rows in a codec, as they lie in memory.
struct code_tile {
  const std::byte* k;
  const std::byte* v;
  const std::uint16_t* k_scales;
  const std::uint16_t* v_scales;
};

// Walks over rows of one codec.
class code_cursor {
 public:
  // gathered_k, gathered_v: room for the codes and scales of `gathered_rows` rows.
  code_cursor(const decode_piece& piece, row_codec coding, std::uint32_t first_row, std::byte* gathered_k,
              std::byte* gathered_v)
      : runs_(piece.head->runs),
        code_bytes_(code_bytes(coding, piece.shape->kv_dtype, piece.shape->head_dim)),
        scales_(scales_per_row(coding, piece.shape->head_dim)),
        gathered_k_(gathered_k),
        gathered_v_(gathered_v) {
    while (first_row >= runs_[run_].rows)
      first_row -= runs_[run_++].rows;
    row_ = first_row;
  }

  // What `next` gives first, on its way into the caches.
  void prefetch(std::uint32_t count) {
    skip_finished_runs();
    const code_tile tile = here();
    for (std::size_t byte = 0; byte < count * code_bytes_; byte += 64) {
      __builtin_prefetch(tile.k + byte, 0, 2);
      __builtin_prefetch(tile.v + byte, 0, 2);
    }
  }

  // The next `count` rows, and codes of zero behind them up to `padded` rows.
  code_tile next(std::uint32_t count, std::uint32_t padded) {
    skip_finished_runs();
    if (count == padded && runs_[run_].rows - row_ >= count) {
      const code_tile tile = here();
      row_ += count;
      return tile;
    }
    return gather(count, padded);
  }

 private:
  code_tile gather(std::uint32_t count, std::uint32_t padded) {
    auto* const k_scales = reinterpret_cast<std::uint16_t*>(gathered_k_ + gathered_rows * code_bytes_);
    auto* const v_scales = reinterpret_cast<std::uint16_t*>(gathered_v_ + gathered_rows * code_bytes_);
    for (std::uint32_t done = 0; done < count;) {
      skip_finished_runs();
      const std::uint32_t some = std::min(count - done, runs_[run_].rows - row_);
      const code_tile from = here();
      std::memcpy(gathered_k_ + done * code_bytes_, from.k, some * code_bytes_);
      std::memcpy(gathered_v_ + done * code_bytes_, from.v, some * code_bytes_);
      std::memcpy(k_scales + done * scales_, from.k_scales, some * scales_ * sizeof(std::uint16_t));
      std::memcpy(v_scales + done * scales_, from.v_scales, some * scales_ * sizeof(std::uint16_t));
      row_ += some;
      done += some;
    }
    std::memset(gathered_k_ + count * code_bytes_, 0, (padded - count) * code_bytes_);
    std::memset(gathered_v_ + count * code_bytes_, 0, (padded - count) * code_bytes_);
    return {gathered_k_, gathered_v_, k_scales, v_scales};
  }

  void skip_finished_runs() {
    while (row_ == runs_[run_].rows) {
      ++run_;
      row_ = 0;
    }
  }
  code_tile here() const {
    const kv_run& run = runs_[run_];
    return {run.k + row_ * code_bytes_, run.v + row_ * code_bytes_, run.k_scales + row_ * scales_,
            run.v_scales + row_ * scales_};
  }

  std::span<const kv_run> runs_;
  std::size_t code_bytes_;
  std::size_t scales_;
  std::byte* gathered_k_;
  std::byte* gathered_v_;
  std::size_t run_ = 0;
  std::uint32_t row_ = 0;
};

}  // namespace weft::kernels
