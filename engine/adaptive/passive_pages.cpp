#include "adaptive/passive_pages.hpp"

#include <weft/kernels/attention_weights.hpp>
#include <weft/kernels/convert.hpp>

#include <algorithm>
#include <cstring>

namespace weft::engine {

namespace adaptive = policies::adaptive;

adaptive_session::passive_pages::passive_pages(runner& model, const row_page_pool& pool, passive_store& store,
                                               std::uint32_t sketch_bits, adaptive_counters& counters)
    : model_(model),
      store_(store),
      sketch_bits_(sketch_bits),
      counters_(counters),
      page_rows_(pool.page_rows()),
      row_bytes_(pool.row_bytes()),
      head_dim_(pool.shape().head_dim),
      kv_heads_(pool.shape().kv_heads),
      group_(model.config().query_heads / kv_heads_),
      heads_(std::size_t{pool.shape().layers} * kv_heads_),
      page_sizes_(heads_.size()),
      log_sums_(model.config().query_heads),
      box_(2 * head_dim_),
      lines_(kv_heads_) {
  if (sketch_bits_ == 0) return;
  for (auto& own : heads_)
    own.sketches = kernels::key_sketches(static_cast<std::uint32_t>(head_dim_), sketch_bits_);
}

void adaptive_session::passive_pages::fit(std::size_t head, std::span<const float> keys) {
  if (sketch_bits_ > 0) heads_[head].sketches.fit(keys);
}

void adaptive_session::passive_pages::add(std::size_t head, std::uint32_t token, const std::byte* k,
                                          const std::byte* v, adaptive::cache_policy& policy) {
  auto& own = heads_[head];
  own.filling.resize(size_of(page_rows_));
  std::memcpy(own.filling.data() + own.filled * sizeof(token), &token, sizeof(token));
  std::memcpy(filling_k(own) + own.filled * row_bytes_, k, row_bytes_);
  std::memcpy(filling_k(own) + (page_rows_ + own.filled) * row_bytes_, v, row_bytes_);
  if (++own.filled == page_rows_) store(head, policy);
}

void adaptive_session::passive_pages::flush(adaptive::cache_policy& policy) {
  for (std::size_t head = 0; head < heads_.size(); ++head)
    if (heads_[head].filled > 0) store(head, policy);
}

void adaptive_session::passive_pages::store(std::size_t head, adaptive::cache_policy& policy) {
  auto& own = heads_[head];
  const std::size_t rows = own.filled;
  std::vector<std::uint32_t> tokens(rows);
  std::memcpy(tokens.data(), own.filling.data(), rows * sizeof(std::uint32_t));
  add_summary(own, own.filled);
  // A page that is not full is stored without its gaps.
  std::byte* const k = filling_k(own);
  std::memmove(k + rows * row_bytes_, k + page_rows_ * row_bytes_, rows * row_bytes_);
  std::memmove(own.filling.data() + rows * sizeof(std::uint32_t), k, 2 * rows * row_bytes_);
  const adaptive::passive_page page{static_cast<std::uint32_t>(head), own.pages++};
  page_sizes_[head].push_back(own.filled);
  const auto put = store_.put(number_of(page), std::span(own.filling).first(size_of(rows)));
  policy.stored(page.head, tokens);
  ++counters_.pages_stored;
  if (put) {
    counters_.bytes_moved += size_of(rows);
  } else {
    ++counters_.pages_lost;
    policy.lost(page);
  }
  own.filled = 0;
}

void adaptive_session::passive_pages::add_summary(head_pages& own, std::uint32_t rows) {
  keys_.resize(rows * head_dim_);
  kernels::to_f32(model_.cache_shape().dtype, filling_k(own), keys_.data(), keys_.size());
  if (sketch_bits_ > 0)
    own.sketches.add(keys_);
  else
    add_box(own, keys_);
}

void adaptive_session::passive_pages::add_box(head_pages& own, std::span<const float> keys) {
  for (std::size_t i = 0; i < head_dim_; ++i) {
    box_[i] = box_[head_dim_ + i] = keys[i];
    for (std::size_t at = i; at < keys.size(); at += head_dim_) {
      box_[i] = std::min(box_[i], keys[at]);
      box_[head_dim_ + i] = std::max(box_[head_dim_ + i], keys[at]);
    }
  }
  if (own.pages % tile_pages == 0)
    own.boxes.emplace_back(model_.cache_shape().dtype, tile_pages, static_cast<std::uint32_t>(2 * head_dim_));
  own.boxes.back().set(own.pages % tile_pages, box_);
}

// By row.
void adaptive_session::passive_pages::estimates_of(const head_pages& own, const float* q,
                                                   logit_lines& out) const {
  out.query.resize(group_ * head_dim_);
  for (std::size_t i = 0; i < out.query.size(); ++i)
    out.query[i] = q[i] * model_.attention().scale;
  out.stride = own.sketches.rows() + kernels::key_sketches::tile_rows;
  out.logits.resize(group_ * out.stride);
  kernels::sketch_products(own.sketches, out.query.data(), static_cast<std::uint32_t>(group_),
                           out.logits.data(), out.stride);
}

// By page.
void adaptive_session::passive_pages::bounds_of(const head_pages& own, const float* q, logit_lines& out) {
  out.stride = own.pages;
  out.logits.resize(group_ * out.stride);
  float bounds[tile_pages];
  for (std::size_t g = 0; g < group_; ++g)
    for (std::uint32_t first = 0; first < own.pages; first += tile_pages) {
      kernels::box_bounds(own.boxes[first / tile_pages], q + g * head_dim_, 1, bounds, model_.threads());
      const std::uint32_t count = std::min(tile_pages, own.pages - first);
      for (std::uint32_t i = 0; i < count; ++i)
        out.logits[g * out.stride + first + i] = bounds[i] * model_.attention().scale;
    }
}

void adaptive_session::passive_pages::begin(std::uint32_t layer,
                                            std::span<const std::vector<kernels::kv_run>> runs,
                                            const float* q, bool ahead, adaptive::cache_policy& policy) {
  const std::size_t first = std::size_t{layer} * kv_heads_;
  const auto query_of = [&](std::size_t h) { return q + h * group_ * head_dim_; };
  weighed_.clear();
  for (std::size_t h = 0; h < kv_heads_; ++h)
    weighed_.push_back({query_of(h), runs[h], nullptr, log_sums_.data() + h * group_});
  kernels::attention_weights(model_.attention(), weighed_, model_.threads());
  if (sketch_bits_ > 0)
    model_.threads().parallel_for(
        kv_heads_, [&](std::size_t h, unsigned) { estimates_of(heads_[first + h], query_of(h), lines_[h]); });
  else
    for (std::size_t h = 0; h < kv_heads_; ++h)
      bounds_of(heads_[first + h], query_of(h), lines_[h]);
  known_.clear();
  for (std::size_t h = 0; h < kv_heads_; ++h)
    known_.push_back({lines_[h].logits, lines_[h].stride, std::span(log_sums_).subspan(h * group_, group_)});

  begun_ahead_ = ahead;
  const auto wanted = policy.recall(layer, known_);
  coming_.assign(wanted.begin(), wanted.end());
  numbers_.clear();
  for (const auto& page : coming_)
    numbers_.push_back(number_of(page));
  if (!numbers_.empty()) store_.begin(numbers_);
}

void adaptive_session::passive_pages::finish(std::span<paged_rows> heads, adaptive::cache_policy& policy) {
  if (coming_.empty()) return;
  // What a layer asks for itself is asked for when it is needed.
  const bool on_time = begun_ahead_ && store_.arrived();
  const auto pages = store_.wait();
  for (const auto page : pages)
    if (!page.empty()) __builtin_prefetch(page.data());
  for (std::size_t i = 0; i < coming_.size(); ++i) {
    const auto& page = coming_[i];
    const std::size_t rows = page_sizes_[page.head][page.page];
    if (pages[i].size() != size_of(rows)) {
      ++counters_.pages_lost;
      policy.lost(page);
      continue;
    }
    const auto tokens = policy.recalled(page);
    put_back(pages[i].data(), rows, heads[page.head], tokens);
    ++counters_.pages_promoted;
    counters_.pages_on_time += on_time ? 1 : 0;
    counters_.promoted_rows += tokens.size();
    counters_.bytes_moved += pages[i].size();
  }
  coming_.clear();
}

void adaptive_session::passive_pages::put_back(const std::byte* page, std::size_t page_rows, paged_rows& rows,
                                               std::span<const std::uint32_t> tokens) const {
  const std::byte* const k = page + page_rows * sizeof(std::uint32_t);
  const std::byte* const v = k + page_rows * row_bytes_;
  std::size_t wanted = 0;
  for (std::size_t row = 0; row < page_rows && wanted < tokens.size(); ++row) {
    std::uint32_t token = 0;
    std::memcpy(&token, page + row * sizeof(token), sizeof(token));
    if (token != tokens[wanted]) continue;
    rows.append(token, k + row * row_bytes_, v + row * row_bytes_);
    ++wanted;
  }
}

std::size_t adaptive_session::passive_pages::summary_bytes() const {
  std::size_t bytes = 0;
  for (const auto& own : heads_)
    for (const auto& boxes : own.boxes)
      bytes += boxes.size_bytes();
  if (sketch_bits_ > 0)
    for (const auto& own : heads_)
      bytes += own.sketches.size_bytes();
  return bytes;
}

std::size_t adaptive_session::passive_pages::state_bytes() const {
  std::size_t bytes = 0;
  for (const auto& own : heads_)
    bytes += own.filling.capacity();
  for (const auto& sizes : page_sizes_)
    bytes += sizes.capacity() * sizeof(std::uint32_t);
  return bytes;
}

}  // namespace weft::engine
