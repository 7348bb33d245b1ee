#include <weft/engine/sparse_context.hpp>
#include <weft/kernels/convert.hpp>

#include "own_scorer.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace {

namespace retrieval = policies::retrieval;

retrieval::ranked_shape ranked_shape_of(const model_config& config, const kv_shape& shape) {
  return {.layers = config.layers,
          .query_heads = config.query_heads,
          .kv_heads = config.kv_heads,
          .head_dim = config.head_dim,
          .type = shape.dtype};
}

struct row_range {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// The rows of a block that a cache has, whose rows lie by ascending position.
row_range rows_of_block(const kv_cache& cache, std::uint32_t layer, std::uint32_t head,
                        const retrieval::context_block& block, std::uint32_t block_tokens) {
  const std::span<const std::int32_t> positions(cache.positions(layer, head), cache.rows(layer, head));
  // Where no row before it is missing, the row of a position has its number.
  const auto start = static_cast<std::uint32_t>(block.start_position);
  const std::uint32_t end = start + block_tokens;
  if (end <= positions.size() && positions[start] == block.start_position &&
      positions[end - 1] == block.start_position + static_cast<std::int32_t>(block_tokens) - 1)
    return {start, end};
  const auto first = std::ranges::lower_bound(positions, block.start_position);
  const auto last = std::ranges::lower_bound(first, positions.end(),
                                             block.start_position + static_cast<std::int32_t>(block_tokens));
  return {static_cast<std::uint32_t>(first - positions.begin()),
          static_cast<std::uint32_t>(last - positions.begin())};
}

std::size_t slot_bytes(std::span<const std::uint32_t> slot_rows, std::size_t heads,
                       std::uint32_t block_tokens, std::size_t row_bytes) {
  const std::size_t rows = slot_rows.empty()
                               ? heads * block_tokens
                               : std::accumulate(slot_rows.begin(), slot_rows.end(), std::size_t{0});
  return 2 * rows * row_bytes;
}

}  // namespace

recent_queries::recent_queries(const model_config& config, std::uint32_t steps)
    : width_(std::size_t{config.query_heads} * config.head_dim),
      steps_(steps),
      queries_(std::size_t{config.layers} * steps * width_),
      known_(config.layers, 0) {}

void recent_queries::layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* q,
                                   std::size_t row_stride) {
  float* const kept = queries_.data() + std::size_t{layer} * steps_ * width_;
  const std::uint32_t fresh = std::min(rows, steps_);
  const std::uint32_t old = std::min(known_[layer], steps_ - fresh);
  std::copy_n(kept + (known_[layer] - old) * width_, old * width_, kept);
  for (std::size_t i = 0; i < fresh; ++i)
    std::copy_n(q + (rows - fresh + i) * row_stride, width_, kept + (old + i) * width_);
  known_[layer] = old + fresh;
}

retrieval::query_group recent_queries::group(std::uint32_t layer) const {
  return {queries_.data() + std::size_t{layer} * steps_ * width_, known_[layer], width_};
}

cached_blocks::cached_blocks(const kv_cache& whole, std::span<const retrieval::context_block> middle,
                             std::uint32_t block_tokens)
    : whole_(whole), middle_(middle.begin(), middle.end()), block_tokens_(block_tokens) {}

void cached_blocks::begin(std::span<const block_load> loads) {
  const kv_shape& shape = whole_.shape();
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (const block_load& load : loads)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const auto [first, last] = rows_of_block(whole_, load.layer, head, middle_[load.block], block_tokens_);
      slot_head& to = load.heads[head];
      if (last - first > to.capacity_rows)
        throw std::logic_error("a block has more rows than its slot was made for");
      to.rows = last - first;
      std::memcpy(to.k, whole_.k(load.layer, head) + first * row_bytes, to.rows * row_bytes);
      std::memcpy(to.v, whole_.v(load.layer, head) + first * row_bytes, to.rows * row_bytes);
    }
}

sparse_context::sparse_context(runner& model, const retrieval::options& options,
                               std::span<const retrieval::context_document> documents,
                               std::span<const std::uint32_t> slot_rows)
    : sparse_context(model, options, documents, nullptr, slot_rows) {
  own_ = std::make_unique<own_scorer>(
      retrieval::make_ranker(options, retrieval::whole_context(ranked_shape_of(model.config(), shape_),
                                                               documents, plan_, model.rope_frequencies())),
      model, plan_.middle);
  scorer_ = own_.get();
}

sparse_context::sparse_context(runner& model, const retrieval::options& options,
                               std::span<const retrieval::context_document> documents, block_scorer& scorer,
                               std::span<const std::uint32_t> slot_rows)
    : sparse_context(model, options, documents, &scorer, slot_rows) {}

sparse_context::sparse_context(runner& model, const retrieval::options& options,
                               std::span<const retrieval::context_document> documents, block_scorer* scorer,
                               std::span<const std::uint32_t> slot_rows)
    : model_(model),
      options_(options),
      documents_(documents.begin(), documents.end()),
      plan_(retrieval::plan_blocks(documents, options)),
      scorer_(scorer),
      shape_(model.cache_shape()),
      query_width_(std::size_t{model.config().query_heads} * shape_.head_dim),
      row_bytes_(shape_.head_dim * kernels::size_bytes(shape_.dtype)),
      slots_(std::min(2 * plan_.winners, plan_.middle)),
      schedule_(options.stride),
      slot_memory_(slots_ * slot_bytes(slot_rows, std::size_t{shape_.layers} * shape_.kv_heads,
                                       options.block_tokens, row_bytes_)),
      slot_heads_(std::size_t{shape_.layers} * slots_ * shape_.kv_heads),
      runs_(std::size_t{shape_.layers} * shape_.kv_heads),
      previous_queries_(std::size_t{shape_.layers} * options.stride * query_width_),
      current_queries_(previous_queries_.size()),
      scores_(std::size_t{shape_.layers} * plan_.middle),
      winners_(std::size_t{shape_.layers} * plan_.winners),
      recent_(model.config(), options.stride) {
  place_slots(slot_rows);
}

sparse_context::~sparse_context() {
  drop_ahead();
}

// A head's slots lie side by side, so that full ones are one run.
void sparse_context::place_slots(std::span<const std::uint32_t> slot_rows) {
  std::byte* free = slot_memory_.data();
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::uint32_t rows =
          slot_rows.empty() ? options_.block_tokens : slot_rows[std::size_t{layer} * shape_.kv_heads + head];
      const std::size_t bytes = rows * row_bytes_;
      for (std::uint32_t number = 0; number < slots_; ++number)
        slot(layer, number)[head] = {.k = free + number * bytes,
                                     .v = free + (std::size_t{slots_} + number) * bytes,
                                     .capacity_rows = rows};
      free += std::size_t{2} * slots_ * bytes;
    }
}

void sparse_context::add_document(std::uint32_t number, const encoded_document& document) {
  std::vector<float> keys(std::size_t{document.tokens()} * shape_.head_dim);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::byte* from = document.k() + layer * document.layer_bytes() + head * document.head_bytes();
      kernels::to_f32(shape_.dtype, from, keys.data(), keys.size());
      own_->ranker().add_keys(layer, head, number, keys);
    }
}

std::span<slot_head> sparse_context::slot(std::uint32_t layer, std::uint32_t number) {
  return std::span(slot_heads_)
      .subspan((std::size_t{layer} * slots_ + number) * shape_.kv_heads, shape_.kv_heads);
}

std::size_t sparse_context::allocated_bytes() const {
  return slot_memory_.size_bytes() + (own_ ? own_->allocated_bytes() : 0);
}

kv_cache sparse_context::resident_rows(kv_cache& whole, std::uint32_t answer_rows) const {
  const std::size_t heads = std::size_t{shape_.layers} * shape_.kv_heads;
  std::vector<std::vector<row_range>> kept(heads);  // between the middle blocks
  std::vector<std::uint32_t> capacity(heads, answer_rows);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::size_t i = std::size_t{layer} * shape_.kv_heads + head;
      kept[i].push_back({0, whole.rows(layer, head)});
      for (const auto& block : plan_.middle_blocks()) {
        const auto [first, last] = rows_of_block(whole, layer, head, block, options_.block_tokens);
        kept[i].back().last = first;
        kept[i].push_back({last, whole.rows(layer, head)});
      }
      for (const auto& [first, last] : kept[i])
        capacity[i] += last - first;
    }
  kv_cache resident(shape_, capacity);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      std::uint32_t to = 0;
      for (const auto& [first, last] : kept[std::size_t{layer} * shape_.kv_heads + head]) {
        const std::size_t bytes = (last - first) * row_bytes_;
        std::memcpy(resident.k(layer, head) + to * row_bytes_, whole.k(layer, head) + first * row_bytes_,
                    bytes);
        std::memcpy(resident.v(layer, head) + to * row_bytes_, whole.v(layer, head) + first * row_bytes_,
                    bytes);
        std::copy_n(whole.positions(layer, head) + first, last - first, resident.positions(layer, head) + to);
        std::copy_n(whole.segments(layer, head) + first, last - first, resident.segments(layer, head) + to);
        to += last - first;
      }
      resident.set_rows(layer, head, to);
    }
  return resident;
}

result<kv_cache> sparse_context::start(kv_cache& whole, std::uint32_t answer_rows,
                                       const recent_queries& prompt, block_source& source) {
  if (auto home = whole.bring_home(); !home) return tl::unexpected(home.error());
  const auto last = documents_.empty() ? 0
                                       : documents_.back().start_position +
                                             static_cast<std::int32_t>(documents_.back().tokens);
  const std::uint32_t rows = whole.rows(0, 0);
  const std::int32_t end = rows == 0 ? 0 : whole.positions(0, 0)[rows - 1] + 1;
  if (end < last)
    return fail(errc::invalid_argument, "the cache ends at " + std::to_string(end) +
                                            " and the documents at " + std::to_string(last) +
                                            "; sparse decoding starts from a whole prompt");
  reset(source);
  if (auto chosen = choose_first(prompt); !chosen) return tl::unexpected(chosen.error());
  model_.threads().wake();  // for the first step
  return resident_rows(whole, answer_rows);
}

void sparse_context::reset(block_source& source) {
  drop_ahead();
  source_ = &source;
  schedule_ = retrieval::period_schedule(options_.stride);
  step_in_period_ = 0;
  tables_.assign(shape_.layers, retrieval::slot_table(slots_, plan_.middle));
  std::ranges::fill(scores_, 0.0F);
  moving_.clear();
  failed_ = {};
  counters_ = {};
}

// The blocks of the first period, by the last queries of the prompt.
result<void> sparse_context::choose_first(const recent_queries& prompt) {
  asked_.clear();
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    const query_group group = prompt.group(layer);
    previous_steps_ = group.steps;
    std::copy_n(group.queries, group.steps * query_width_,
                previous_queries_.begin() +
                    static_cast<std::ptrdiff_t>(std::size_t{layer} * options_.stride * query_width_));
    asked_.push_back({layer, group});
  }
  submit(asked_);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    choose(layer);
  if (auto loaded = finish_loads(); !loaded) return loaded;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    swap_layer(layer);
  return {};
}

void sparse_context::submit(std::span<const layer_group> asked) {
  if (ranks()) scorer_->submit(asked);
}

void sparse_context::collect(std::uint32_t layer) {
  const auto winners = std::span(winners_).subspan(std::size_t{layer} * plan_.winners, plan_.winners);
  if (!ranks()) return std::iota(winners.begin(), winners.end(), 0U);
  const auto scores = std::span(scores_).subspan(std::size_t{layer} * plan_.middle, plan_.middle);
  if (!scorer_->collect(layer, scores)) ++counters_.stale_rankings;
  retrieval::choose_winners(scores, winners);
  ++counters_.rankings;
}

void sparse_context::choose(std::uint32_t layer) {
  collect(layer);
  begin_loads(layer);
}

void sparse_context::rank(std::uint32_t layer, const query_group& group) {
  const layer_group one{layer, group};
  submit({&one, 1});
  choose(layer);
}

void sparse_context::begin_loads(std::uint32_t layer) {
  loads_.clear();
  const auto winners = std::span(winners_).subspan(std::size_t{layer} * plan_.winners, plan_.winners);
  for (const auto& [block, place] : tables_[layer].prepare(winners)) {
    const auto heads = slot(layer, place);
    for (slot_head& head : heads)
      head.rows = 0;
    loads_.push_back({.layer = layer, .block = block, .heads = heads});
    moving_.push_back(heads);
  }
  counters_.blocks_moved += loads_.size();
  if (loads_.empty()) return;
  source_->begin(loads_);
  if (source_->arrived()) count_arrived();
}

void sparse_context::count_arrived() {
  for (const auto heads : moving_)
    for (const slot_head& head : heads)
      counters_.bytes_moved += std::size_t{2} * head.rows * row_bytes_;
  moving_.clear();
}

result<void> sparse_context::finish_loads() {
  if (!source_->arrived()) {
    ++counters_.late_loads;
    if (auto waited = source_->wait(); !waited) return waited;
  }
  count_arrived();
  for (const block_load& lost : source_->take_lost()) {
    tables_[lost.layer].lose(lost.block);
    ++counters_.blocks_lost;
  }
  return {};
}

void sparse_context::swap_layer(std::uint32_t layer) {
  retrieval::slot_table& table = tables_[layer];
  table.swap();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
    auto& runs = runs_[std::size_t{layer} * shape_.kv_heads + head];
    runs.clear();
    for (const std::uint32_t block : table.attended()) {
      const slot_head& rows = slot(layer, table.slot_of(block))[head];
      if (rows.rows == 0) continue;
      // The values of neighbours are neighbours, too.
      if (!runs.empty() && runs.back().k + runs.back().rows * row_bytes_ == rows.k &&
          runs.back().v + runs.back().rows * row_bytes_ == rows.v)
        runs.back().rows += rows.rows;
      else
        runs.push_back({rows.k, rows.v, rows.rows});
    }
  }
}

result<void> sparse_context::begin_step() {
  drop_ahead();  // of a step that broke off
  ++counters_.steps;
  if (!retrieval::is_periodic(options_.chosen)) return {};
  actions_ = schedule_.next();
  if (!actions_.swap) return {};
  if (auto loaded = finish_loads(); !loaded) return loaded;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    swap_layer(layer);
  std::swap(previous_queries_, current_queries_);
  previous_steps_ = options_.stride;
  step_in_period_ = 0;
  return {};
}

sparse_context::query_group sparse_context::group_of(const std::vector<float>& queries, std::uint32_t layer,
                                                     std::uint32_t steps) const {
  return {queries.data() + std::size_t{layer} * options_.stride * query_width_, steps, query_width_};
}

result<void> sparse_context::end_step() {
  if (!failed_) return failed_;
  if (!retrieval::is_periodic(options_.chosen)) return {};
  ++step_in_period_;
  if (actions_.submit) {
    asked_.clear();
    for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
      asked_.push_back({layer, group_of(previous_queries_, layer, previous_steps_)});
    submit(asked_);
  }
  if (actions_.begin_load)
    for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
      choose(layer);
  return {};
}

bool sparse_context::wants_queries_ahead() const {
  return options_.chosen == retrieval::policy::kvstar_ahead;
}

void sparse_context::queries_ahead(std::uint32_t layer, std::uint32_t, std::uint32_t, const float* q,
                                   std::size_t) {
  if (prompt_) return;
  const layer_group one{layer, {q, 1, query_width_}};
  submit({&one, 1});
  // Until the layer attends, this thread leaves alone what choosing its blocks changes.
  if (ranks() && scorer_->when_ranked(layer, [this, layer] { choose(layer); }))
    ahead_ = layer;
  else
    choose(layer);
}

void sparse_context::drop_ahead() {
  if (ahead_) scorer_->take_back();
  ahead_.reset();
}

// Where not everybody has answered, this waits for them.
void sparse_context::finish_ahead() {
  if (!ahead_) return;
  const std::uint32_t layer = *ahead_;
  ahead_.reset();
  if (scorer_->take_back()) choose(layer);
}

void sparse_context::layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                                   const float* q, std::size_t row_stride) {
  if (prompt_) {
    recent_.layer_queries(layer, first_row, rows, q, row_stride);
    if (layer == 0 && plan_.middle > 0) {
      if (!source_->arrived() && failed_) failed_ = source_->wait();
      next_part_ = 0;
      begin_part(0);
    }
    return;
  }
  if (retrieval::is_periodic(options_.chosen)) {
    std::copy_n(q, query_width_,
                current_queries_.begin() +
                    static_cast<std::ptrdiff_t>((layer * options_.stride + step_in_period_) * query_width_));
    return;
  }
  // The first layer has no layer before it to look ahead from.
  if (!wants_queries_ahead() || layer == 0) rank(layer, {q, 1, query_width_});
  finish_ahead();
  if (auto loaded = finish_loads(); !loaded && failed_) failed_ = loaded;
  swap_layer(layer);
}

std::span<const kernels::kv_run> sparse_context::more_rows(std::uint32_t layer, const kv_cache&,
                                                           std::uint32_t kv_head) {
  if (prompt_ && failed_)
    failed_ = fail(errc::unsupported,
                   "a prompt whose last pass computes one row cannot be asked sparsely; "
                   "ask a longer question, or densely");
  return runs_[std::size_t{layer} * shape_.kv_heads + kv_head];
}

// -- a prompt against blocks that stay where they are --

void sparse_context::open(block_source& source) {
  reset(source);
  prompt_ = true;
  recent_ = recent_queries(model_.config(), options_.stride);
  next_part_ = 0;
  part_heads_.resize(shape_.kv_heads);
  part_positions_.resize(shape_.kv_heads);
  part_segments_.assign(std::size_t{part_blocks()} * options_.block_tokens, -1);  // seen from outside only
}

result<void> sparse_context::start_decoding() {
  prompt_ = false;
  if (!source_->arrived())
    if (auto waited = source_->wait(); !waited) return waited;
  if (!source_->take_lost().empty() && failed_)
    failed_ = fail(errc::unreachable, "blocks of the prompt could not be had from any holder; try again");
  if (!failed_) return failed_;
  return choose_first(recent_);
}

std::uint32_t sparse_context::part_blocks() const {
  return std::max(1U, slots_ / 2);
}

std::uint32_t sparse_context::parts_of_a_layer() const {
  return (plan_.middle + part_blocks() - 1) / part_blocks();
}

// Where there is but one slot, the next part waits for the one before it to be attended.
void sparse_context::begin_part(std::uint32_t part) {
  begun_part_ = part;
  const std::uint32_t layer = part / parts_of_a_layer();
  if (layer >= shape_.layers) return;
  const std::uint32_t first = part % parts_of_a_layer() * part_blocks();
  const std::uint32_t first_slot = slots_ < 2 ? 0 : part % 2 * part_blocks();
  loads_.clear();
  for (std::uint32_t i = 0; i < std::min(part_blocks(), plan_.middle - first); ++i)
    loads_.push_back({.layer = layer, .block = first + i, .heads = slot(layer, first_slot + i)});
  source_->begin(loads_);
}

// The rows of blocks in neighbouring slots, moved together to the first one's place; those slots hold nothing
// else from then on. What the prompt computes stands before or behind whole blocks, so each row may be said
// to stand where its block begins.
kernels::prefill_kv_head sparse_context::joined(std::uint32_t layer, std::uint32_t kv_head,
                                                std::uint32_t first_slot, std::uint32_t first_block,
                                                std::uint32_t blocks) {
  const slot_head& to = slot(layer, first_slot)[kv_head];
  auto& positions = part_positions_[kv_head];
  positions.clear();
  for (std::uint32_t i = 0; i < blocks; ++i) {
    const slot_head& from = slot(layer, first_slot + i)[kv_head];
    const std::size_t at = positions.size() * row_bytes_;
    if (to.k + at != from.k) {
      std::memmove(to.k + at, from.k, from.rows * row_bytes_);
      std::memmove(to.v + at, from.v, from.rows * row_bytes_);
    }
    positions.insert(positions.end(), from.rows, plan_.middle_blocks()[first_block + i].start_position);
  }
  return {.k = to.k,
          .v = to.v,
          .rows = static_cast<std::uint32_t>(positions.size()),
          .positions = positions.data(),
          .segments = part_segments_.data()};
}

std::span<const kernels::prefill_kv_head> sparse_context::next_part(std::uint32_t layer, const kv_cache&) {
  if (!prompt_ || plan_.middle == 0 || !failed_) return {};
  const std::uint32_t part = next_part_;
  if (part / parts_of_a_layer() != layer) return {};
  if (begun_part_ < part) begin_part(part);
  if (!source_->arrived()) {
    if (failed_ = source_->wait(); !failed_) return {};
  }
  if (!source_->take_lost().empty()) {
    failed_ = fail(errc::unreachable, "blocks of the prompt could not be had from any holder; try again");
    return {};
  }
  if (slots_ >= 2) begin_part(part + 1);
  ++next_part_;
  const std::uint32_t first = part % parts_of_a_layer() * part_blocks();
  const std::uint32_t blocks = std::min(part_blocks(), plan_.middle - first);
  const std::uint32_t first_slot = slots_ < 2 ? 0 : part % 2 * part_blocks();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
    part_heads_[head] = joined(layer, head, first_slot, first, blocks);
  return part_heads_;
}

}  // namespace weft::engine
