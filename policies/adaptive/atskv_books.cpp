#include "adaptive/atskv_books.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

namespace weft::policies::adaptive {

namespace {

constexpr std::uint32_t most_remembered_tokens = 65536;
// Until it is predicted, a row that has just come in is to stay.
constexpr float unknown_relevance = 1;

float norm_of(std::span<const float> vector) {
  float sum = 0;
  for (const float value : vector)
    sum += value * value;
  return std::sqrt(sum);
}

// The largest of a group's weights, by row.
void largest_weights(std::span<const float> weights, std::size_t group, std::span<float> out) {
  std::ranges::copy(weights.first(out.size()), out.begin());
  for (std::size_t g = 1; g < group; ++g) {
    const float* const line = weights.data() + g * out.size();
    for (std::size_t row = 0; row < out.size(); ++row)
      out[row] = std::max(out[row], line[row]);
  }
}

}  // namespace

void token_relevance::begin(std::uint32_t tokens) {
  const std::size_t size = std::bit_ceil(std::clamp(tokens, 1024U, most_remembered_tokens));
  values_.assign(size, 0.0F);
  mask_ = static_cast<std::uint32_t>(size - 1);
}

void token_relevance::add(std::uint32_t token, float relevance) {
  float& value = values_[token & mask_];
  value = std::max(value, relevance);
}

atskv_books::atskv_books(const session_shape& shape, std::shared_ptr<const relevance_predictor> predictor,
                         bool passive)
    : shape_(shape),
      predictor_(std::move(predictor)),
      lines_(predictor_->lines()),
      passive_(passive),
      heads_(shape.heads(), head_rows(predictor_->lines())),
      query_rows_(shape.layers, 0),
      shown_(shape.layers),
      projected_(shape.layers),
      shares_(shape.kv_heads) {}

void atskv_books::add_kinds(std::uint32_t first_token, std::span<const std::uint8_t> kinds) {
  if (kinds_.empty()) first_kind_ = first_token;
  kinds_.insert(kinds_.end(), kinds.begin(), kinds.end());
}

void atskv_books::add_hidden(std::uint32_t layer, std::uint32_t first_token, std::uint32_t rows,
                             const float* normed) {
  auto& projected = projected_[layer];
  if (projected.lines.empty()) projected.first_token = first_token;
  const std::size_t old = projected.lines.size();
  projected.lines.resize(old + rows * lines_);
  for (std::size_t row = 0; row < rows; ++row)
    predictor_->project_hidden(layer, {normed + row * shape_.hidden_size, shape_.hidden_size},
                               std::span(projected.lines).subspan(old + row * lines_, lines_));
}

void atskv_books::add_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows,
                           const row_values& values) {
  const std::size_t width = shape_.head_dim;
  for (std::uint32_t row = 0; row < rows; ++row) {
    const std::uint32_t token = first_token + row;
    add_row(head, token,
            {.key_norm = norm_of(values.keys.subspan(row * width, width)),
             .value_norm = norm_of(values.values.subspan(row * width, width)),
             .kind = token - first_kind_ < kinds_.size() ? kinds_[token - first_kind_] : std::uint8_t{0},
             .kv_head = head % shape_.kv_heads,
             .hidden = {}});
    newest_ = std::max(newest_, token);
  }
}

void atskv_books::add_row(std::uint32_t head, std::uint32_t token, const constant_features& known) {
  auto& own = heads_[head];
  const std::uint32_t layer = head / shape_.kv_heads;
  const auto& projected = projected_[layer];
  own.slots.add(token);
  own.slots.relevance.back() = unknown_relevance;
  own.copies.push_back(head_rows::no_copy);
  const auto lines = own.slots.lines_of(own.slots.size() - 1);
  const std::size_t offset = std::size_t{token - projected.first_token} * lines_;
  if (token >= projected.first_token && offset + lines_ <= projected.lines.size())
    std::copy_n(projected.lines.begin() + static_cast<std::ptrdiff_t>(offset), lines_, lines.begin());
  else
    predictor_->project_hidden(layer, {}, lines);
  predictor_->add_constant(layer, known, lines);
}

void atskv_books::forget_entered() {
  for (auto& projected : projected_)
    projected.lines.clear();
  kinds_.clear();
}

void atskv_books::add_attention(std::uint32_t layer, std::span<const head_weights> seen) {
  const std::uint32_t row = query_rows_[layer];
  auto& shown = shown_[layer];
  shown.rows = std::max(1U, row + 1 - shown.end);
  shown.end = row + 1;
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    auto& slots = heads_[layer * shape_.kv_heads + h].slots;
    weights_.resize(slots.size());
    largest_weights(seen[h].weights, shape_.group(), weights_);
    add_to_traces(weights_, row, slots.traces, shown.rows);
  }
}

void atskv_books::next_row() {
  for (std::uint32_t& row : query_rows_)
    ++row;
}

// A layer's stored rows are predicted before its resident ones, where there is a store.
void atskv_books::enter(std::uint32_t layer) {
  if (entered_ == layer) return;
  entered_ = layer;
  std::swap(before_, current_);
  if (layer == 0) before_.begin(0);
  current_.begin(newest_ + 2);
}

void atskv_books::predict_rows(std::uint32_t layer, row_books& rows) {
  before_of_rows_.resize(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i)
    before_of_rows_[i] = before_.of(rows.tokens[i]);
  predictor_->relevances(layer, rows.projected,
                         {rows.traces.data(), rows.tokens.data(), newest_, before_of_rows_.data()},
                         rows.relevance);
}

void atskv_books::predict(std::uint32_t layer) {
  enter(layer);
  for (std::uint32_t head = layer * shape_.kv_heads; head < (layer + 1) * shape_.kv_heads; ++head) {
    auto& slots = heads_[head].slots;
    predict_rows(layer, slots);
    for (std::size_t i = 0; i < slots.size(); ++i)
      current_.add(slots.tokens[i], slots.relevance[i]);
  }
  // The next step begins anew, also where there is one layer only.
  if (layer + 1 == shape_.layers) entered_ = UINT32_MAX;
}

std::span<const float> atskv_books::best_logits(std::uint32_t head, const passive_logits& known,
                                                bool by_row) {
  const std::size_t count = by_row ? heads_[head].stored.size() : heads_[head].page_ends.size();
  weights_.resize(count);
  for (std::size_t g = 0; g < known.log_sums.size(); ++g) {
    const float* const line = known.logits.data() + g * known.stride;
    const float log_sum = known.log_sums[g];
    float* const best = weights_.data();
    if (g == 0)
      for (std::size_t i = 0; i < count; ++i)
        best[i] = line[i] - log_sum;
    else
      for (std::size_t i = 0; i < count; ++i)
        best[i] = std::max(best[i], line[i] - log_sum);
  }
  return weights_;
}

std::span<const float> atskv_books::shares(std::uint32_t kv_head, std::uint32_t head,
                                           const passive_logits& known, bool by_row) {
  const auto& own = heads_[head];
  auto& shares = shares_[kv_head];
  shares.resize(own.stored.size());
  const std::size_t count = best_logits(head, known, by_row).size();
  to_shares(weights_);
  if (by_row) {
    std::ranges::copy(weights_, shares.begin());
  } else {
    for (std::uint32_t page = 0; page < count; ++page)
      std::fill(shares.begin() + own.page_begin(page), shares.begin() + own.page_ends[page], weights_[page]);
  }
  return shares;
}

void atskv_books::predict_stored(std::uint32_t layer) {
  enter(layer);
  const std::uint32_t since = std::max(1U, query_rows_[layer] + 1 - shown_[layer].end);
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    auto& own = heads_[layer * shape_.kv_heads + h];
    // What is coming will be seen with the attention that it really gets; what is resident has other books.
    coming_.clear();
    for (std::size_t i = 0; i < own.stored.size(); ++i)
      if (own.states[i] == stored_state::coming) coming_.emplace_back(i, own.stored.traces[i]);
    add_to_traces(shares_[h], query_rows_[layer], own.stored.traces, since);
    for (const auto& [row, trace] : coming_)
      own.stored.traces[row] = trace;
    predict_rows(layer, own.stored);
    for (std::size_t i = 0; i < own.stored.size(); ++i)
      if (own.states[i] == stored_state::absent) current_.add(own.stored.tokens[i], own.stored.relevance[i]);
  }
}

void atskv_books::remove(std::uint32_t head, std::vector<std::uint32_t>& slots) {
  auto& own = heads_[head];
  // From the back: no row that is to go fills another one's slot.
  std::ranges::sort(slots, std::greater<>());
  for (const std::uint32_t slot : slots) {
    const std::uint32_t copy = own.copies[slot];
    if (copy != head_rows::no_copy) {
      own.stored.set(copy, own.slots, slot);
      own.states[copy] = stored_state::absent;
    } else if (passive_) {
      own.leaving.add(own.slots, slot);
    }
    removed_.push_back({head, slot, own.slots.tokens[slot], copy != head_rows::no_copy});
    const std::size_t last = own.slots.size() - 1;
    if (slot != last) {
      own.slots.set(slot, own.slots, last);
      own.copies[slot] = own.copies[last];
    }
    own.slots.keep_first(last);
    own.copies.pop_back();
  }
}

void atskv_books::sort_leaving(std::size_t tiers) {
  for (auto& own : heads_) {
    const auto& leaving = own.leaving;
    std::vector<std::uint32_t> order(leaving.size());
    std::iota(order.begin(), order.end(), 0U);
    const auto token_of = [&](std::uint32_t i) { return leaving.tokens[i]; };
    std::ranges::sort(order, {}, token_of);
    std::ranges::stable_sort(order, std::greater<>(), [&](std::uint32_t i) { return leaving.relevance[i]; });
    for (std::size_t tier = 0; tier < tiers; ++tier)
      std::ranges::sort(order.begin() + static_cast<std::ptrdiff_t>(tier * order.size() / tiers),
                        order.begin() + static_cast<std::ptrdiff_t>((tier + 1) * order.size() / tiers), {},
                        token_of);
    row_books sorted(lines_);
    for (const std::uint32_t i : order)
      sorted.add(leaving, i);
    own.leaving = std::move(sorted);
  }
}

void atskv_books::store(std::uint32_t head, std::size_t tokens) {
  auto& own = heads_[head];
  const std::size_t count = std::min(tokens, own.leaving.size());
  own.stored.make_room(count);
  for (std::size_t i = 0; i < count; ++i)
    own.stored.add(own.leaving, i);
  own.leaving.forget_first(count);
  own.states.resize(own.stored.size(), stored_state::absent);
  own.page_ends.push_back(static_cast<std::uint32_t>(own.stored.size()));
}

std::span<const std::uint32_t> atskv_books::take_back(const passive_page& which) {
  auto& own = heads_[which.head];
  returned_.clear();
  for (std::uint32_t row = own.page_begin(which.page); row < own.page_ends[which.page]; ++row) {
    if (own.states[row] != stored_state::coming) continue;
    own.states[row] = stored_state::resident;
    returned_.push_back(own.stored.tokens[row]);
    own.slots.add(own.stored, row);
    own.slots.choices.back().value = smoothed_choice::promote_above;
    own.slots.relevance.back() = unknown_relevance;
    own.copies.push_back(row);
  }
  return returned_;
}

std::uint32_t atskv_books::lose(const passive_page& which) {
  auto& own = heads_[which.head];
  const std::uint32_t first = own.page_begin(which.page);
  const std::uint32_t end = own.page_ends[which.page];
  std::uint32_t coming = 0;
  for (std::uint32_t row = first; row < end; ++row) {
    coming += own.states[row] == stored_state::coming ? 1 : 0;
    own.states[row] = stored_state::lost;
  }
  // A resident row of it is the only one: if it leaves, it is stored anew.
  for (auto& copy : own.copies)
    if (copy != head_rows::no_copy && copy >= first && copy < end) copy = head_rows::no_copy;
  return coming;
}

std::size_t atskv_books::bytes() const {
  std::size_t bytes = removed_.capacity() * sizeof(removed_row);
  for (const auto& own : heads_)
    bytes += own.slots.bytes() + own.leaving.bytes() + own.stored.bytes() +
             (own.copies.capacity() + own.page_ends.capacity()) * sizeof(std::uint32_t) +
             own.states.capacity();
  return bytes;
}

}  // namespace weft::policies::adaptive
