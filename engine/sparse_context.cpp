#include <weft/engine/sparse_context.hpp>
#include <weft/kernels/convert.hpp>

#include <algorithm>
#include <cstring>
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

}  // namespace

recent_queries::recent_queries(const model_config& config, std::uint32_t steps)
    : width_(std::size_t{config.query_heads} * config.head_dim),
      steps_(steps),
      queries_(config.layers * steps * width_),
      known_(config.layers, 0) {}

void recent_queries::layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* q,
                                   std::size_t row_stride) {
  float* const kept = queries_.data() + layer * steps_ * width_;
  const std::uint32_t fresh = std::min(rows, steps_);
  const std::uint32_t old = std::min(known_[layer], steps_ - fresh);
  std::copy_n(kept + (known_[layer] - old) * width_, old * width_, kept);
  for (std::size_t i = 0; i < fresh; ++i)
    std::copy_n(q + (rows - fresh + i) * row_stride, width_, kept + (old + i) * width_);
  known_[layer] = old + fresh;
}

retrieval::query_group recent_queries::group(std::uint32_t layer) const {
  return {queries_.data() + layer * steps_ * width_, known_[layer], width_};
}

cached_blocks::cached_blocks(kv_cache& whole, std::span<const retrieval::context_block> middle,
                             std::uint32_t block_tokens)
    : whole_(whole), middle_(middle.begin(), middle.end()), block_tokens_(block_tokens) {}

void cached_blocks::begin(std::span<const block_load> loads) {
  const kv_shape& shape = whole_.shape();
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (const block_load& load : loads)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::int32_t* positions = whole_.positions(load.layer, head);
      const std::int32_t* row = std::lower_bound(positions, positions + whole_.rows(load.layer, head),
                                                 middle_[load.block].start_position);
      const std::size_t from = static_cast<std::size_t>(row - positions) * row_bytes;
      const std::size_t to = head * load.head_stride_bytes;
      std::memcpy(load.k + to, whole_.k(load.layer, head) + from, block_tokens_ * row_bytes);
      std::memcpy(load.v + to, whole_.v(load.layer, head) + from, block_tokens_ * row_bytes);
    }
}

sparse_context::sparse_context(runner& model, const retrieval::options& options,
                               std::span<const retrieval::context_document> documents)
    : model_(model),
      options_(options),
      documents_(documents.begin(), documents.end()),
      plan_(retrieval::plan_blocks(documents, options)),
      ranker_(retrieval::make_ranker(
          options, retrieval::whole_context(ranked_shape_of(model.config(), model.cache_shape()), documents,
                                            plan_, model.rope_frequencies()))),
      shape_(model.cache_shape()),
      query_width_(std::size_t{model.config().query_heads} * shape_.head_dim),
      block_bytes_(options.block_tokens * shape_.head_dim * kernels::size_bytes(shape_.dtype)),
      slots_(std::min(2 * plan_.winners, plan_.middle)),
      schedule_(options.stride),
      slot_memory_(std::size_t{2} * shape_.layers * shape_.kv_heads * slots_ * block_bytes_),
      runs_(std::size_t{shape_.layers} * shape_.kv_heads),
      previous_queries_(shape_.layers * options.stride * query_width_),
      current_queries_(previous_queries_.size()),
      scores_(plan_.middle),
      winners_(std::size_t{shape_.layers} * plan_.winners) {}

sparse_context::~sparse_context() = default;

void sparse_context::add_document(std::uint32_t number, const encoded_document& document) {
  std::vector<float> keys(std::size_t{document.tokens()} * shape_.head_dim);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::byte* from = document.k() + layer * document.layer_bytes() + head * document.head_bytes();
      kernels::to_f32(shape_.dtype, from, keys.data(), keys.size());
      ranker_->add_keys(layer, head, number, keys);
    }
}

std::byte* sparse_context::slot(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t number,
                                bool values) {
  const std::size_t heads = std::size_t{shape_.layers} * shape_.kv_heads;
  const std::size_t head = std::size_t{layer} * shape_.kv_heads + kv_head + (values ? heads : 0);
  return slot_memory_.data() + (head * slots_ + number) * block_bytes_;
}

std::size_t sparse_context::allocated_bytes() const {
  return slot_memory_.size_bytes() + ranker_->allocated_bytes();
}

kv_cache sparse_context::resident_rows(kv_cache& whole, std::uint32_t answer_rows) const {
  const auto middle = plan_.middle_blocks();
  const auto elsewhere = static_cast<std::uint32_t>(middle.size()) * options_.block_tokens;
  kv_cache resident(shape_, whole.rows(0, 0) - elsewhere + answer_rows);
  const std::size_t row_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::int32_t* const positions = whole.positions(layer, head);
      const std::uint32_t rows = whole.rows(layer, head);
      std::uint32_t to = 0;
      std::size_t block = 0;
      for (std::uint32_t from = 0; from < rows;) {
        if (block < middle.size() && positions[from] == middle[block].start_position) {
          from += options_.block_tokens;
          ++block;
          continue;
        }
        std::memcpy(resident.k(layer, head) + to * row_bytes, whole.k(layer, head) + from * row_bytes,
                    row_bytes);
        std::memcpy(resident.v(layer, head) + to * row_bytes, whole.v(layer, head) + from * row_bytes,
                    row_bytes);
        resident.positions(layer, head)[to] = positions[from];
        resident.segments(layer, head)[to] = whole.segments(layer, head)[from];
        ++to;
        ++from;
      }
      resident.set_rows(layer, head, to);
    }
  return resident;
}

result<kv_cache> sparse_context::start(kv_cache& whole, std::uint32_t answer_rows,
                                       const recent_queries& prompt, block_source& source) {
  const auto last = documents_.empty() ? 0 : documents_.back().start_position + documents_.back().tokens;
  if (whole.rows(0, 0) < last)
    return fail(errc::invalid_argument, "the cache has " + std::to_string(whole.rows(0, 0)) +
                                            " rows and the documents end at " + std::to_string(last) +
                                            "; sparse decoding starts from a whole prompt");
  source_ = &source;
  schedule_ = retrieval::period_schedule(options_.stride);
  step_in_period_ = 0;
  tables_.assign(shape_.layers, retrieval::slot_table(slots_, plan_.middle));
  failed_ = {};
  counters_ = {};
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    const query_group group = prompt.group(layer);
    previous_steps_ = group.steps;
    std::copy_n(
        group.queries, group.steps * query_width_,
        previous_queries_.begin() + static_cast<std::ptrdiff_t>(layer * options_.stride * query_width_));
    rank(layer, group);
    begin_loads(layer);
  }
  if (auto loaded = finish_loads(); !loaded) return tl::unexpected(loaded.error());
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
    swap_layer(layer);
  return resident_rows(whole, answer_rows);
}

void sparse_context::rank(std::uint32_t layer, const query_group& group) {
  if (plan_.winners == 0 || group.steps == 0) return;
  ranker_->score(layer, group, shard_, model_.threads());
  retrieval::merge_shards({&shard_, 1}, scores_);
  retrieval::choose_winners(scores_, std::span(winners_).subspan(layer * plan_.winners, plan_.winners));
  ++counters_.rankings;
}

void sparse_context::begin_loads(std::uint32_t layer) {
  loads_.clear();
  const auto winners = std::span(winners_).subspan(layer * plan_.winners, plan_.winners);
  for (const auto& [block, place] : tables_[layer].prepare(winners))
    loads_.push_back({.layer = layer,
                      .block = block,
                      .k = slot(layer, 0, place, false),
                      .v = slot(layer, 0, place, true),
                      .head_stride_bytes = slots_ * block_bytes_});
  counters_.blocks_moved += loads_.size();
  counters_.bytes_moved += loads_.size() * 2 * shape_.kv_heads * block_bytes_;
  if (!loads_.empty()) source_->begin(loads_);
}

result<void> sparse_context::finish_loads() {
  if (source_->arrived()) return {};
  ++counters_.late_loads;
  return source_->wait();
}

void sparse_context::swap_layer(std::uint32_t layer) {
  retrieval::slot_table& table = tables_[layer];
  table.swap();
  for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
    auto& runs = runs_[std::size_t{layer} * shape_.kv_heads + head];
    runs.clear();
    for (const std::uint32_t block : table.attended()) {
      const std::uint32_t place = table.slot_of(block);
      const std::byte* const k = slot(layer, head, place, false);
      if (!runs.empty() && runs.back().k + runs.back().rows / options_.block_tokens * block_bytes_ == k)
        runs.back().rows += options_.block_tokens;
      else
        runs.push_back({k, slot(layer, head, place, true), options_.block_tokens});
    }
  }
}

result<void> sparse_context::begin_step() {
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
  return {queries.data() + layer * options_.stride * query_width_, steps, query_width_};
}

result<void> sparse_context::end_step() {
  if (!failed_) return failed_;
  if (!retrieval::is_periodic(options_.chosen)) return {};
  ++step_in_period_;
  for (std::uint32_t layer = 0; layer < shape_.layers; ++layer) {
    if (actions_.submit) rank(layer, group_of(previous_queries_, layer, previous_steps_));
    if (actions_.begin_load) begin_loads(layer);
  }
  return {};
}

bool sparse_context::wants_queries_ahead() const {
  return options_.chosen == retrieval::policy::kvstar_ahead;
}

void sparse_context::queries_ahead(std::uint32_t layer, std::uint32_t, std::uint32_t, const float* q,
                                   std::size_t) {
  rank(layer, {q, 1, query_width_});
  begin_loads(layer);
}

void sparse_context::layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t, const float* q,
                                   std::size_t) {
  if (retrieval::is_periodic(options_.chosen)) {
    std::copy_n(q, query_width_,
                current_queries_.begin() +
                    static_cast<std::ptrdiff_t>((layer * options_.stride + step_in_period_) * query_width_));
    return;
  }
  // The first layer has no layer before it to look ahead from.
  if (!wants_queries_ahead() || layer == 0) {
    rank(layer, {q, 1, query_width_});
    begin_loads(layer);
  }
  if (auto loaded = finish_loads(); !loaded && failed_) failed_ = loaded;
  swap_layer(layer);
}

std::span<const kernels::kv_run> sparse_context::more_rows(std::uint32_t layer, const kv_cache&,
                                                           std::uint32_t kv_head) {
  return runs_[std::size_t{layer} * shape_.kv_heads + kv_head];
}

}  // namespace weft::engine
