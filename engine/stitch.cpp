#include <weft/engine/stitch.hpp>

#include "block_scatter.hpp"
#include "kv_cache_slots.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>

namespace weft::engine {

namespace {

using policies::document_source;
using policies::placed_document;
using policies::planned_row;
using policies::row_origin;
using policies::stitch_plan;

result<void> check_blocks(const placed_document& placed, document_blocks blocks, std::size_t number) {
  std::uint32_t tokens = 0;
  for (const block::view& block : blocks)
    tokens += block.dimensions().tokens;
  const std::uint32_t expected = placed.source == document_source::load ? placed.tokens : 0;
  if (tokens == expected) return {};
  return fail(errc::invalid_argument, "the blocks of document " + std::to_string(number + 1) + " hold " +
                                          std::to_string(tokens) + " tokens where the plan loads " +
                                          std::to_string(expected));
}

result<void> check_documents(runner& model, const kv_cache& cache, const stitch_plan& plan,
                             std::span<const document_blocks> documents) {
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
      if (cache.rows(layer, head) != 0)
        return fail(errc::invalid_argument, "documents are loaded into an empty cache; truncate it first");
  if (documents.size() != plan.documents.size())
    return fail(errc::invalid_argument, "the plan has " + std::to_string(plan.documents.size()) +
                                            " documents and " + std::to_string(documents.size()) +
                                            " were given");
  for (std::size_t i = 0; i < documents.size(); ++i)
    if (auto checked = check_blocks(plan.documents[i], documents[i], i); !checked) return checked;
  if (plan.prompt_tokens > model.config().max_context_tokens)
    return fail(errc::invalid_argument,
                "the prompt has " + std::to_string(plan.prompt_tokens) + " tokens and the model's context " +
                    std::to_string(model.config().max_context_tokens) + "; ask with fewer documents");
  return {};
}

bool is_reused(const placed_document& document) {
  return document.source != document_source::compute;
}

// Positions of computed rows that lie in no reused document and have one behind them.
std::vector<std::int32_t> computed_between(const stitch_plan& plan, std::uint32_t first_row) {
  std::vector<std::int32_t> positions;
  auto row = plan.rows.begin() + first_row;
  for (const placed_document& document : plan.documents) {
    if (!is_reused(document)) continue;
    for (; row != plan.rows.end() && row->position < document.start_position; ++row)
      positions.push_back(row->position);
    while (row != plan.rows.end() && row->position < document.end_position())
      ++row;
  }
  return positions;
}

result<void> encode_and_scatter(runner& model, kv_cache& cache, const placed_document& placed) {
  const auto document = encode_document(model, placed.encode_tokens);
  if (!document) return tl::unexpected(document.error());
  return scatter_document(model, cache, *document, placed.start_position, placed.segment,
                          placed.rotated_position);
}

void place_blocks(const placed_document& placed, document_blocks blocks,
                  std::vector<placed_block>& placements) {
  std::int32_t offset = 0;
  for (const block::view& block : blocks) {
    placements.push_back({.block = &block,
                          .bands = block.bands_present(),
                          .start_position = placed.start_position + offset,
                          .segment = placed.segment,
                          .rotated_position = placed.rotated_position + offset});
    offset += static_cast<std::int32_t>(block.dimensions().tokens);
  }
}

result<void> load_document(runner& model, kv_cache& cache, const placed_document& placed,
                           document_blocks blocks, loaded_rows wanted) {
  std::vector<placed_block> placements;
  place_blocks(placed, blocks, placements);
  return scatter_blocks(model, cache, placements, wanted);
}

result<void> check_context(const runner& model, std::span<const planned_row> rows) {
  if (rows.empty())
    return fail(errc::invalid_argument, "there are no rows to compute; a prompt ends with some");
  const std::uint32_t context = model.config().max_context_tokens;
  if (static_cast<std::uint32_t>(rows.back().position) < context) return {};
  return fail(errc::invalid_argument, "the prompt has " + std::to_string(rows.back().position + 1) +
                                          " tokens and the model's context " + std::to_string(context) +
                                          "; ask a shorter question or with fewer documents");
}

row_batch batch_of(std::span<const planned_row> rows, std::size_t logits_rows) {
  row_batch batch;
  for (const planned_row& row : rows)
    batch.add(row.token, row.position, row.segment);
  batch.logits_rows.resize(std::min(logits_rows, rows.size()));
  std::iota(batch.logits_rows.begin(), batch.logits_rows.end(),
            static_cast<std::uint32_t>(rows.size() - batch.logits_rows.size()));
  return batch;
}

row_selection selection_of(const stitch_plan& plan, std::span<const planned_row> rows) {
  row_selection selection{.layer = plan.selector->layer, .rows = plan.selector->rows, .candidates = {}};
  for (std::uint32_t row = 0; row < rows.size(); ++row)
    if (rows[row].origin == row_origin::document) selection.candidates.push_back(row);
  return selection;
}

// Which of them were computed in all layers, ascending.
result<std::vector<std::uint32_t>> compute(runner& model, kv_cache& cache, const stitch_plan& plan,
                                           std::span<const planned_row> rows, std::span<float> logits,
                                           forward_observer* observer) {
  if (auto checked = check_context(model, rows); !checked) return tl::unexpected(checked.error());
  const row_batch batch = batch_of(rows, logits.size() / model.config().vocab_size);
  if (plan.selector) {
    const auto selection = selection_of(plan, rows);
    if (!selection.candidates.empty() && observer != nullptr)
      return fail(errc::unsupported, "a plan that chooses rows cannot be observed");
    if (!selection.candidates.empty()) return model.forward_selected(batch, cache, selection, logits);
  }
  kv_cache* const caches[] = {&cache};
  if (auto done = model.forward(batch, caches, logits, observer); !done) return tl::unexpected(done.error());
  std::vector<std::uint32_t> all(rows.size());
  std::iota(all.begin(), all.end(), 0U);
  return all;
}

}  // namespace

result<std::vector<placed_block>> placed_blocks(runner& model, const kv_cache& cache, const stitch_plan& plan,
                                                std::span<const document_blocks> documents) {
  if (auto checked = check_documents(model, cache, plan, documents); !checked)
    return tl::unexpected(checked.error());
  std::vector<placed_block> placements;
  for (std::size_t i = 0; i < documents.size(); ++i)
    place_blocks(plan.documents[i], documents[i], placements);
  return placements;
}

result<void> reserve_computed_rows(kv_cache& cache, const stitch_plan& plan, std::uint32_t first_row) {
  const auto positions = computed_between(plan, first_row);
  if (positions.empty()) return {};
  if (!has_room(cache, positions))
    return fail(errc::out_of_space, "no room for " + std::to_string(positions.size()) +
                                        " rows of the prompt in a KV cache of " +
                                        std::to_string(cache.capacity_rows()) + " rows");
  const std::vector<std::int32_t> segments(positions.size(), 0);
  std::vector<std::uint32_t> slots(positions.size());
  const std::size_t bytes = positions.size() * cache.shape().row_bytes();
  const std::size_t scales = positions.size() * cache.shape().row_scales();
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head) {
      open_slots(cache, layer, head, positions, segments, slots);
      // Masked rows count with a weight of zero, which is no protection from what memory may hold.
      std::memset(cache.k(layer, head), 0, bytes);
      std::memset(cache.v(layer, head), 0, bytes);
      std::fill_n(cache.k_scales(layer, head), scales, std::uint16_t{0});
      std::fill_n(cache.v_scales(layer, head), scales, std::uint16_t{0});
    }
  return {};
}

loaded_rows wanted_by(const stitch_plan& plan, loaded_rows wanted) {
  const bool computed = std::ranges::any_of(
      plan.rows, [](const planned_row& row) { return row.origin == row_origin::document; });
  return computed || plan.selector ? loaded_rows::here : wanted;
}

result<void> load_documents(runner& model, kv_cache& cache, const stitch_plan& plan,
                            std::span<const document_blocks> documents, loaded_rows wanted) {
  auto ready = check_documents(model, cache, plan, documents);
  if (ready) ready = reserve_computed_rows(cache, plan);
  if (ready = model.agreed(std::move(ready)); !ready) return ready;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const placed_document& placed = plan.documents[i];
    result<void> done;
    if (placed.source == document_source::load)
      done = load_document(model, cache, placed, documents[i], wanted_by(plan, wanted));
    else if (placed.source == document_source::encode)
      done = encode_and_scatter(model, cache, placed);
    if (done = model.agreed(std::move(done)); !done) {
      cache.truncate(0);
      return done;
    }
  }
  return {};
}

result<std::vector<std::uint32_t>> prefill(runner& model, kv_cache& cache, const stitch_plan& plan,
                                           std::span<float> logits, forward_observer* observer) {
  return compute(model, cache, plan, plan.rows, logits, observer);
}

result<void> prefill_part(runner& model, kv_cache& cache, const stitch_plan& plan, row_range part,
                          std::span<float> logits, forward_observer* observer) {
  if (part.first > part.last || part.last > plan.rows.size())
    return fail(errc::invalid_argument, "rows " + std::to_string(part.first) + " to " +
                                            std::to_string(part.last) + " of a plan of " +
                                            std::to_string(plan.rows.size()) + " rows");
  if (part.first == part.last) return {};
  const auto rows = std::span(plan.rows).subspan(part.first, part.last - part.first);
  const auto done = compute(model, cache, plan, rows, logits, observer);
  if (!done) return tl::unexpected(done.error());
  return {};
}

result<void> prefill_rows(runner& model, kv_cache& cache, std::span<const planned_row> rows,
                          std::span<float> logits) {
  if (auto checked = check_context(model, rows); !checked) return checked;
  kv_cache* const caches[] = {&cache};
  return model.forward(batch_of(rows, 1), caches, logits);
}

}  // namespace weft::engine
