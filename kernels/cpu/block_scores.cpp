#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/kernels/flush_to_zero.hpp>
#include <weft/kernels/products.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/block_scores.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "cpu/score_lines-inl.hpp"
#include "cpu/score_piece.hpp"
#include "cpu/tile_sums-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace weft::kernels::HWY_NAMESPACE {

// Products of some lines with one tile: out[line * out_stride + vector], and the largest of each line and
// lane.
template <class Channels, std::size_t lines>
HWY_INLINE void tile_products(const std::byte* tile, std::size_t channels, const float* q, float* out,
                              std::size_t out_stride, f32_vector (&largest)[lines]) {
  for (std::size_t part = 0; part < score_width; part += group_columns) {
    f32_vector acc[lines][group];
    multiply_group<Channels>(tile, part, channels, q, acc);
    for (std::size_t line = 0; line < lines; ++line)
      for (std::size_t v = 0; v < group; ++v) {
        float* const to = out + line * out_stride + part + v * kernels::HWY_NAMESPACE::lanes;
        hn::StoreU(acc[line][v], f32_tag(), to);
        largest[line] = hn::Max(largest[line], acc[line][v]);
      }
  }
}

template <std::size_t lines>
HWY_INLINE void store_maxima(const f32_vector (&largest)[lines], float* maxima) {
  for (std::size_t i = 0; i < lines; ++i)
    maxima[i] = hn::GetLane(hn::MaxOfLanes(f32_tag(), largest[i]));
}

template <class Channels>
void products_of_lines(const key_tiles& keys, const float* q, std::size_t lines, float* out,
                       std::size_t out_stride, float* maxima) {
  in_passes<most_lines>(lines, [&]<std::size_t wide>(std::size_t line) HWY_ATTR {
    f32_vector largest[wide];
    std::ranges::fill(largest, hn::Set(f32_tag(), least_product));
    for (std::size_t i = 0; i < keys.count; ++i)
      tile_products<Channels, wide>(keys.first + i * keys.tile_bytes, keys.channels, q + line * keys.channels,
                                    out + line * out_stride + i * score_width, out_stride, largest);
    if (maxima != nullptr) store_maxima(largest, maxima + line);
  });
}

#if WEFT_KERNELS_NATIVE_BF16
void round_pairs(float* q, std::size_t count) {
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const f32_vector values = hn::LoadU(f32_tag(), q + i);
    __m256i narrow;
    __asm__("vcvtneps2bf16 %1, %0" : "=v"(narrow) : "v"(values.raw));
    _mm512_storeu_si512(q + i, _mm512_cvtepu32_epi64(narrow));
  }
  for (; i < count; i += 2) {
    const std::uint32_t pair = bf16_from_f32(q[i]) | std::uint32_t{bf16_from_f32(q[i + 1])} << 16U;
    std::memcpy(q + i, &pair, sizeof(pair));
  }
}
#endif

// Queries become what `tiles_products` multiplies with.
void prepare_queries([[maybe_unused]] dtype operands, [[maybe_unused]] float* q,
                     [[maybe_unused]] std::size_t count) {
#if WEFT_KERNELS_NATIVE_BF16
  if (operands == dtype::bf16) round_pairs(q, count);
#endif
}

// `q`: prepared for the same operands, [line][channel], padded to whole pairs. `maxima`, [line], may be null.
void tiles_products(const key_tiles& keys, const float* q, std::size_t lines, float* out,
                    std::size_t out_stride, float* maxima) {
  with_channels(
      keys, [&]<class Channels>() { products_of_lines<Channels>(keys, q, lines, out, out_stride, maxima); });
}

float largest(const float* values, std::size_t count) {
  const f32_tag tag;
  f32_vector found[4];  // a maximum waits for the one before it
  std::ranges::fill(found, hn::Set(tag, least_product));
  std::size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes)
    for (std::size_t v = 0; v < 4; ++v)
      found[v] = hn::Max(found[v], hn::LoadU(tag, values + i + v * lanes));
  for (; i + lanes <= count; i += lanes)
    found[0] = hn::Max(found[0], hn::LoadU(tag, values + i));
  found[0] = hn::Max(hn::Max(found[0], found[1]), hn::Max(found[2], found[3]));
  float maximum = hn::GetLane(hn::MaxOfLanes(tag, found[0]));
  for (; i < count; ++i)
    maximum = std::max(maximum, values[i]);
  return maximum;
}

// Sum of 2^(value - maximum). May read, not use, up to a vector beyond `count`.
HWY_INLINE float exponentials(const float* values, std::size_t count, f32_vector maximum) {
  const f32_tag tag;
  f32_vector sum = hn::Zero(tag);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    sum = hn::Add(sum, exp2_of<true>(hn::Sub(hn::LoadU(tag, values + i), maximum)));
  if (i < count) {
    const auto rest = hn::FirstN(tag, count - i);
    const f32_vector last = hn::IfThenElse(rest, hn::LoadU(tag, values + i), maximum);
    sum = hn::Add(sum, hn::IfThenElseZero(rest, exp2_of<true>(hn::Sub(last, maximum))));
  }
  return hn::GetLane(hn::SumOfLanes(tag, sum));
}

// One line's products of whole blocks: what each block sums to, over 2^base.
void block_sums(const float* products, std::size_t vectors, std::size_t block_vectors, float base,
                float* sums) {
  for (std::size_t first = 0; first < vectors; first += block_vectors)
    *sums++ =
        exponentials(products + first, std::min(block_vectors, vectors - first), hn::Set(f32_tag(), base));
}

// Blocks whose sums can be made of tiles that stay in registers.
bool blocks_fill_tiles(std::size_t block_vectors) {
  return lanes >= 8 && block_vectors >= 4 && score_width % block_vectors == 0;
}

// Of whole tiles, where `blocks_fill_tiles`: sums over 2^bases[line].
void tiles_sums([[maybe_unused]] const key_tiles& keys, [[maybe_unused]] const float* q,
                [[maybe_unused]] std::size_t lines, [[maybe_unused]] const float* bases,
                [[maybe_unused]] std::size_t block_vectors, [[maybe_unused]] float* sums,
                [[maybe_unused]] std::size_t sums_stride) {
#if HWY_TARGET != HWY_SCALAR
  with_channels(keys, [&]<class Channels>() {
    sums_of_lines<Channels>(keys, q, lines, bases, block_vectors, sums, sums_stride);
  });
#endif
}

// Of whole blocks in one tile, where `blocks_fill_tiles`.
void one_tile_blocks([[maybe_unused]] const key_tiles& keys, [[maybe_unused]] const float* q,
                     [[maybe_unused]] std::size_t lines, [[maybe_unused]] std::size_t vectors,
                     [[maybe_unused]] std::size_t block_vectors, [[maybe_unused]] float* sums,
                     [[maybe_unused]] softmax_total* totals) {
#if HWY_TARGET != HWY_SCALAR
  with_channels(keys, [&]<class Channels>() {
    one_tile_of_lines<Channels>(keys, q, lines, vectors, block_vectors, sums, totals);
  });
#endif
}

float sum_of(const float* values, std::size_t count) {
  const f32_tag tag;
  f32_vector sum = hn::Zero(tag);
  std::size_t i = 0;
  for (; i + lanes <= count; i += lanes)
    sum = hn::Add(sum, hn::LoadU(tag, values + i));
  float total = hn::GetLane(hn::SumOfLanes(tag, sum));
  for (; i < count; ++i)
    total += values[i];
  return total;
}

// Brings the sums of a line's pieces, over 2^bases[piece], to the largest base, and returns that with the sum
// of all. Most pieces have that base, and are left alone.
softmax_total join_line(float* sums, std::size_t blocks, std::size_t piece_blocks, const float* bases,
                        const float* totals, std::size_t pieces) {
  const f32_tag tag;
  softmax_total total;
  total.maximum = std::max(total.maximum, largest(bases, pieces));
  for (std::size_t piece = 0; piece < pieces; ++piece) {
    if (bases[piece] == total.maximum) {
      total.sum += totals[piece];
      continue;
    }
    const f32_vector factor = exp2_of<false>(hn::Set(tag, bases[piece] - total.maximum));
    const std::size_t end = std::min(blocks, (piece + 1) * piece_blocks);
    std::size_t block = piece * piece_blocks;
    for (; block + lanes <= end; block += lanes)
      hn::StoreU(hn::Mul(hn::LoadU(tag, sums + block), factor), tag, sums + block);
    for (; block < end; ++block)
      sums[block] *= hn::GetLane(factor);
    total.sum += totals[piece] * hn::GetLane(factor);
  }
  return total;
}

template <class Channels>
HWY_INLINE void bounds_of(const std::byte* tile, std::size_t channels, const float* q, float* out) {
  const f32_tag tag;
  for (std::size_t part = 0; part < score_width; part += kernels::HWY_NAMESPACE::lanes) {
    f32_vector acc = hn::Zero(tag);
    for (std::size_t channel = 0; channel < channels; ++channel) {
      // The corner on the query's side gives the larger product.
      const std::size_t corner = q[channel] > 0 ? channels + channel : channel;
      acc = hn::MulAdd(Channels::channel_of(tile, corner, part), hn::Set(tag, q[channel]), acc);
    }
    hn::StoreU(acc, tag, out + part);
  }
}

void tile_bounds(dtype type, const std::byte* tile, std::size_t channels, const float* q, float* out) {
  switch (type) {
    case dtype::f32:
      return bounds_of<single_channels<f32_elements>>(tile, channels, q, out);
    case dtype::bf16:
      return bounds_of<bf16_pairs>(tile, channels, q, out);
    case dtype::f16:
      return bounds_of<single_channels<f16_elements>>(tile, channels, q, out);
  }
}

}  // namespace weft::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace weft::kernels {

HWY_EXPORT(prepare_queries);
HWY_EXPORT(tiles_products);
HWY_EXPORT(blocks_fill_tiles);
HWY_EXPORT(tiles_sums);
HWY_EXPORT(one_tile_blocks);
HWY_EXPORT(block_sums);
HWY_EXPORT(largest);
HWY_EXPORT(sum_of);
HWY_EXPORT(join_line);
HWY_EXPORT(tile_bounds);

namespace {

constexpr std::uint32_t tile_width = score_tiles::tile_vectors;
constexpr std::uint32_t product_tiles = 64;  // of a task of plain products

// A task's vectors are summed piece by piece. Where products are stored, those of a piece stay in the
// first-level cache.
constexpr std::uint32_t aimed_task_vectors = 4096;
constexpr std::uint32_t aimed_piece_vectors = 512;

std::uint32_t tiles_of(std::uint32_t vectors) {
  return (vectors + tile_width - 1) / tile_width;
}

std::uint32_t padded(dtype type, std::uint32_t channels) {
  return type == dtype::bf16 ? (channels + 1) / 2 * 2 : channels;
}

std::size_t prepared_floats(const score_tiles& keys, std::uint32_t lines) {
  return std::size_t{lines} * padded(keys.type(), keys.channels());
}

void prepare(const score_tiles& keys, products allowed, const float* queries, std::uint32_t lines,
             float* out) {
  const std::uint32_t width = padded(keys.type(), keys.channels());
  for (std::size_t line = 0; line < lines; ++line) {
    std::copy_n(queries + line * keys.channels(), keys.channels(), out + line * width);
    std::fill(out + line * width + keys.channels(), out + (line + 1) * width, 0.0F);
  }
  HWY_DYNAMIC_DISPATCH(prepare_queries)(operand_dtype(allowed, keys.type()), out, std::size_t{lines} * width);
}

key_tiles some_tiles(const score_tiles& keys, products allowed, std::uint32_t first_tile,
                     std::uint32_t count) {
  return {.type = keys.type(),
          .operands = operand_dtype(allowed, keys.type()),
          .first = keys.tile(first_tile),
          .tile_bytes = keys.tile_bytes(),
          .count = count,
          .channels = padded(keys.type(), keys.channels())};
}

// Blocks that are summed at once, without pieces.
bool fits_one_tile(const softmax_blocks& item) {
  const std::uint32_t vectors = item.keys->vectors();
  return vectors > 0 && vectors <= tile_width && item.block_vectors <= vectors &&
         HWY_DYNAMIC_DISPATCH(blocks_fill_tiles)(item.block_vectors) && vectors % item.block_vectors == 0;
}

// Pieces are of whole blocks and whole tiles.
struct piece_plan {
  explicit piece_plan(const softmax_blocks& item)
      : one_tile(fits_one_tile(item)), width(padded(item.keys->type(), item.keys->channels())) {
    if (one_tile) return;
    by_tiles =
        item.keys->vectors() >= tile_width && HWY_DYNAMIC_DISPATCH(blocks_fill_tiles)(item.block_vectors);
    const std::uint32_t common = std::lcm(tile_width, item.block_vectors);
    vectors = common * std::max(1U, (by_tiles ? aimed_task_vectors : aimed_piece_vectors) / common);
    task_pieces = std::max(1U, aimed_task_vectors / vectors);
    pieces = (item.keys->vectors() + vectors - 1) / vectors;
    piece_blocks = vectors / item.block_vectors;
    blocks = (item.keys->vectors() + item.block_vectors - 1) / item.block_vectors;
    tasks = (pieces + task_pieces - 1) / task_pieces;
  }

  bool one_tile;          // there are no pieces
  bool by_tiles = false;  // sums are made of tiles, without storing products
  std::uint32_t task_pieces = 0;
  std::uint32_t vectors = 0;       // of a piece
  std::uint32_t piece_blocks = 0;  // likewise
  std::uint32_t pieces = 0;
  std::uint32_t blocks = 0;
  std::uint32_t tasks = 1;
  std::uint32_t width;  // of a prepared query
};

// Of one item, in scratch memory.
struct item_memory {
  item_memory(const softmax_blocks& item, const piece_plan& plan, float* memory)
      : queries(memory),
        base(queries + prepared_floats(*item.keys, item.lines)),
        bases(base + item.lines),
        totals(bases + std::size_t{item.lines} * plan.pieces),
        end(totals + std::size_t{item.lines} * plan.pieces) {}

  static std::size_t floats(const softmax_blocks& item, const piece_plan& plan) {
    return prepared_floats(*item.keys, item.lines) + item.lines * (1 + 2 * std::size_t{plan.pieces});
  }

  float* queries;  // prepared
  float* base;     // [line]: what sums of tiles are over, as a power of two
  float* bases;    // [line][piece]: likewise of each piece
  float* totals;   // [line][piece]: sum of its blocks
  float* end;
};

// What sums one piece after the other. All have the same base, the largest product of the first tile. One
// with products far above it is summed over its own maximum, and so are all where products are stored: pieces
// depend on nothing.
class piece_summer {
 public:
  piece_summer(const softmax_blocks& item, const piece_plan& plan, const item_memory& memory,
               workspace& products)
      : item_(item), plan_(plan), memory_(memory), stride_(plan.vectors + tile_width) {
    const std::size_t floats = lines_at_once * stride_;
    products_ = reinterpret_cast<float*>(products.reserve(floats * sizeof(float)).data());
  }

  void run(std::uint32_t task) {
    piece_ = task * plan_.task_pieces;
    for (const auto end = std::min(plan_.pieces, piece_ + plan_.task_pieces); piece_ < end; ++piece_) {
      vectors_ = std::min(plan_.vectors, item_.keys->vectors() - piece_ * plan_.vectors);
      for (line_ = 0; line_ < item_.lines; line_ += lines_at_once) {
        lines_ = std::min(lines_at_once, item_.lines - line_);
        if (!plan_.by_tiles || !sum_tiles()) sum_products();
      }
    }
  }

 private:
  const float* queries() const { return memory_.queries + std::size_t{line_} * plan_.width; }
  float* sums_of(std::uint32_t line) const {
    return item_.sums + (std::size_t{line_} + line) * plan_.blocks + std::size_t{piece_} * plan_.piece_blocks;
  }
  std::uint32_t first_tile() const { return piece_ * (plan_.vectors / tile_width); }

  // Of the blocks' sums; says whether they were in range.
  bool set_total(std::uint32_t line, float base) const {
    const std::size_t at = (std::size_t{line_} + line) * plan_.pieces + piece_;
    const std::uint32_t blocks = (vectors_ + item_.block_vectors - 1) / item_.block_vectors;
    memory_.bases[at] = base;
    memory_.totals[at] = HWY_DYNAMIC_DISPATCH(sum_of)(sums_of(line), blocks);
    return memory_.totals[at] <= most_piece_sum;
  }

  // Into `products_`.
  void multiply(std::uint32_t tile, std::uint32_t tiles) const {
    HWY_DYNAMIC_DISPATCH(tiles_products)
    (some_tiles(*item_.keys, item_.allowed, tile, tiles), queries(), lines_, products_, stride_, nullptr);
  }

  // False where products lie too far above their base.
  bool sum_tiles() const {
    const std::uint32_t tiles = vectors_ / tile_width;
    const float* const bases = memory_.base + line_;
    HWY_DYNAMIC_DISPATCH(tiles_sums)
    (some_tiles(*item_.keys, item_.allowed, first_tile(), tiles), queries(), lines_, bases,
     item_.block_vectors, sums_of(0), plan_.blocks);
    if (vectors_ % tile_width != 0) sum_last_tile(tiles, bases);
    bool good = true;
    for (std::uint32_t line = 0; line < lines_; ++line)
      good = set_total(line, bases[line]) && good;
    return good;
  }

  // What fills it is no product.
  void sum_last_tile(std::uint32_t tile, const float* bases) const {
    const std::uint32_t rest = vectors_ % tile_width;
    if (rest % item_.block_vectors == 0) return sum_last_blocks(tile, bases, rest / item_.block_vectors);
    multiply(first_tile() + tile, 1);
    for (std::uint32_t line = 0; line < lines_; ++line)
      HWY_DYNAMIC_DISPATCH(block_sums)
    (products_ + line * stride_, rest, item_.block_vectors, bases[line],
     sums_of(line) + tile * tile_width / item_.block_vectors);
  }

  // Whole ones: those behind them in the tile are left out.
  void sum_last_blocks(std::uint32_t tile, const float* bases, std::uint32_t blocks) const {
    float sums[lines_at_once * tile_width];
    HWY_DYNAMIC_DISPATCH(tiles_sums)
    (some_tiles(*item_.keys, item_.allowed, first_tile() + tile, 1), queries(), lines_, bases,
     item_.block_vectors, sums, tile_width);
    for (std::uint32_t line = 0; line < lines_; ++line)
      std::copy_n(sums + line * tile_width, blocks,
                  sums_of(line) + std::size_t{tile} * (tile_width / item_.block_vectors));
  }

  void sum_products() const {
    multiply(first_tile(), tiles_of(vectors_));
    for (std::uint32_t line = 0; line < lines_; ++line) {
      const float* const own = products_ + line * stride_;
      const float maximum = HWY_DYNAMIC_DISPATCH(largest)(own, vectors_);
      HWY_DYNAMIC_DISPATCH(block_sums)(own, vectors_, item_.block_vectors, maximum, sums_of(line));
      (void)set_total(line, maximum);
    }
  }

  const softmax_blocks& item_;
  const piece_plan& plan_;
  const item_memory& memory_;
  std::size_t stride_;  // of a line's products: room for a piece and a tile
  float* products_;
  std::uint32_t piece_ = 0;    // at work
  std::uint32_t vectors_ = 0;  // of the piece
  std::uint32_t line_ = 0;     // and lines behind it that are at work
  std::uint32_t lines_ = 0;
};

void set_base(const softmax_blocks& item, const item_memory& memory, const piece_plan& plan) {
  float products[lines_at_once * tile_width];
  for (std::uint32_t line = 0; line < item.lines; line += lines_at_once) {
    const std::uint32_t lines = std::min(lines_at_once, item.lines - line);
    HWY_DYNAMIC_DISPATCH(tiles_products)
    (some_tiles(*item.keys, item.allowed, 0, 1), memory.queries + std::size_t{line} * plan.width, lines,
     products, tile_width, memory.base + line);
  }
}

void sum_one_tile(const softmax_blocks& item, const item_memory& memory) {
  prepare(*item.keys, item.allowed, item.queries, item.lines, memory.queries);
  HWY_DYNAMIC_DISPATCH(one_tile_blocks)
  (some_tiles(*item.keys, item.allowed, 0, 1), memory.queries, item.lines, item.keys->vectors(),
   item.block_vectors, item.sums, item.totals);
}

void join_line_of(const softmax_blocks& item, const piece_plan& plan, const item_memory& memory,
                  std::size_t line) {
  const std::size_t first = line * plan.pieces;
  item.totals[line] =
      HWY_DYNAMIC_DISPATCH(join_line)(item.sums + line * plan.blocks, plan.blocks, plan.piece_blocks,
                                      memory.bases + first, memory.totals + first, plan.pieces);
}

// Queries and, where sums are made of tiles, their bases.
void make_ready(const softmax_blocks& item, const piece_plan& plan, const item_memory& memory) {
  if (plan.one_tile) return;
  prepare(*item.keys, item.allowed, item.queries, item.lines, memory.queries);
  if (plan.by_tiles) set_base(item, memory, plan);
}

// What one thread does before another one has begun: few blocks take some microseconds.
constexpr std::size_t products_of_one_thread = std::size_t{1} << 17;

// Of few blocks, all on this thread.
void sum_alone(std::span<const softmax_blocks> items, float* memory, workspace& products) {
  for (const softmax_blocks& item : items) {
    const piece_plan plan(item);
    const item_memory own(item, plan, memory);
    memory = own.end;
    if (plan.one_tile) {
      sum_one_tile(item, own);
      continue;
    }
    make_ready(item, plan, own);
    piece_summer summer(item, plan, own, products);
    for (std::uint32_t task = 0; task < plan.tasks; ++task)
      summer.run(task);
    for (std::size_t line = 0; line < item.lines; ++line)
      join_line_of(item, plan, own, line);
  }
}

void check(const softmax_blocks& item) {
  if (item.keys == nullptr || item.block_vectors == 0)
    throw std::invalid_argument("softmax_block_sums: blocks need keys and at least one vector each");
}

}  // namespace

score_tiles::score_tiles(dtype type, std::uint32_t vectors, std::uint32_t channels)
    : type_(type), vectors_(vectors), channels_(channels) {
  memory_ = aligned_buffer(tiles_of(vectors) * tile_bytes());
  if (memory_.size_bytes() > 0) std::memset(memory_.data(), 0, memory_.size_bytes());
}

std::size_t score_tiles::tile_bytes() const {
  return std::size_t{tile_width} * padded(type_, channels_) * kernels::size_bytes(type_);
}

void score_tiles::set(std::uint32_t vector, std::span<const float> values) {
  if (vector >= vectors_ || values.size() != channels_)
    throw std::invalid_argument("score_tiles::set: no such vector, or one of another width");
  const std::size_t together = type_ == dtype::bf16 ? 2 : 1;
  std::byte* const tile_data = memory_.data() + vector / tile_width * tile_bytes();
  for (std::size_t channel = 0; channel < values.size(); ++channel) {
    const std::size_t group = channel / together * tile_width + vector % tile_width;
    const std::size_t element = group * together + channel % together;
    from_f32(type_, &values[channel], tile_data + element * kernels::size_bytes(type_), 1);
  }
}

void softmax_block_sums(std::span<const softmax_blocks> items, workspace& scratch, thread_pool& pool) {
  std::size_t floats = 0;
  std::size_t tasks = 0;
  std::size_t products = 0;
  for (const softmax_blocks& item : items) {
    check(item);
    const piece_plan plan(item);
    floats += item_memory::floats(item, plan);
    tasks += plan.tasks;
    products += std::size_t{item.lines} * item.keys->vectors() * item.keys->channels();
  }
  auto* const memory = reinterpret_cast<float*>(scratch.reserve(floats * sizeof(float)).data());
  const flush_to_zero small;
  if (products <= products_of_one_thread) return sum_alone(items, memory, pool.scratch(0));
  float* next = memory;
  for (const softmax_blocks& item : items) {
    const piece_plan plan(item);
    const item_memory own(item, plan, next);
    make_ready(item, plan, own);
    next = own.end;
  }
  pool.parallel_for(tasks, [&](std::size_t task, unsigned worker) {
    const flush_to_zero small_here;
    float* first = memory;
    for (const softmax_blocks& item : items) {
      const piece_plan plan(item);
      const item_memory own(item, plan, first);
      if (task == 0 && plan.one_tile) return sum_one_tile(item, own);
      if (task < plan.tasks)
        return piece_summer(item, plan, own, pool.scratch(worker)).run(static_cast<std::uint32_t>(task));
      task -= plan.tasks;
      first = own.end;
    }
  });
  next = memory;
  for (const softmax_blocks& item : items) {
    const piece_plan plan(item);
    const item_memory own(item, plan, next);
    next = own.end;
    if (plan.one_tile) continue;
    pool.parallel_for(item.lines, [&](std::size_t line, unsigned) { join_line_of(item, plan, own, line); });
  }
}

void vector_products(const score_tiles& keys, const float* queries, std::uint32_t lines, float* out,
                     thread_pool& pool) {
  const std::uint32_t tiles = tiles_of(keys.vectors());
  pool.parallel_for((tiles + product_tiles - 1) / product_tiles, [&](std::size_t index, unsigned worker) {
    const std::uint32_t first = static_cast<std::uint32_t>(index) * product_tiles;
    const std::uint32_t count = std::min(product_tiles, tiles - first);
    const std::size_t stride = std::size_t{product_tiles} * tile_width;
    const std::size_t floats = lines * stride + prepared_floats(keys, lines);
    auto* products = reinterpret_cast<float*>(pool.scratch(worker).reserve(floats * sizeof(float)).data());
    float* const prepared = products + lines * stride;
    prepare(keys, products::f32, queries, lines, prepared);
    HWY_DYNAMIC_DISPATCH(tiles_products)
    (some_tiles(keys, products::f32, first, count), prepared, lines, products, stride, nullptr);
    const std::size_t present = std::min(count * tile_width, keys.vectors() - first * tile_width);
    for (std::size_t line = 0; line < lines; ++line)
      std::copy_n(products + line * stride, present,
                  out + line * keys.vectors() + std::size_t{first} * tile_width);
  });
}

void box_bounds(const score_tiles& boxes, const float* queries, std::uint32_t lines, float* out,
                thread_pool& pool) {
  auto* const bound = &HWY_DYNAMIC_DISPATCH(tile_bounds);
  const std::size_t channels = boxes.channels() / 2;
  pool.parallel_for(tiles_of(boxes.vectors()), [&](std::size_t index, unsigned) {
    const auto at = static_cast<std::uint32_t>(index);
    const std::uint32_t present = std::min(tile_width, boxes.vectors() - at * tile_width);
    float bounds[tile_width];
    for (std::size_t line = 0; line < lines; ++line) {
      bound(boxes.type(), boxes.tile(at), channels, queries + line * channels, bounds);
      std::copy_n(bounds, present, out + line * boxes.vectors() + index * tile_width);
    }
  });
}

}  // namespace weft::kernels
#endif
