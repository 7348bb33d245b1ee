#include <weft/engine/stitch.hpp>

#include "block_scatter.hpp"
#include "kv_cache_slots.hpp"

#include <algorithm>
#include <cstring>
#include <string>

namespace weft::engine {

namespace {

using policies::document_source;
using policies::placed_document;
using policies::planned_row;
using policies::row_origin;
using policies::stitch_plan;

// Computed apart from the other rows, so that it has the same bytes as one that was loaded.
bool encoded_alone(const placed_document& document) {
  return document.source == document_source::compute && document.segment != 0;
}

bool encoded_alone(const stitch_plan& plan, const planned_row& row) {
  if (row.origin != row_origin::document || row.segment == 0) return false;
  const auto document = std::ranges::find(plan.documents, row.segment, &placed_document::segment);
  return document != plan.documents.end() && encoded_alone(*document);
}

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

// The opening is computed together with the question, after the documents behind it were loaded. Its rows are
// there from the beginning, so that no document has to move for them.
result<void> reserve_opening(kv_cache& cache, const stitch_plan& plan) {
  std::vector<std::int32_t> positions;
  for (const planned_row& row : plan.rows)
    if (row.origin == row_origin::opening) positions.push_back(row.position);
  if (!has_room(cache, positions))
    return fail(errc::out_of_space, "no room for the prompt's opening in a KV cache of " +
                                        std::to_string(cache.capacity_rows()) + " rows");
  const std::vector<std::int32_t> segments(positions.size(), 0);
  std::vector<std::uint32_t> slots(positions.size());
  const std::size_t bytes =
      positions.size() * cache.shape().head_dim * kernels::size_bytes(cache.shape().dtype);
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head) {
      open_slots(cache, layer, head, positions, segments, slots);
      // Masked rows count with a weight of zero, which is no protection from what memory may hold.
      std::memset(cache.k(layer, head), 0, bytes);
      std::memset(cache.v(layer, head), 0, bytes);
    }
  return {};
}

result<void> encode_and_scatter(runner& model, kv_cache& cache, const stitch_plan& plan,
                                const placed_document& placed) {
  std::vector<token_id> tokens;
  for (const planned_row& row : plan.rows)
    if (row.origin == row_origin::document && row.segment == placed.segment) tokens.push_back(row.token);
  const auto document = encode_document(model, tokens);
  if (!document) return tl::unexpected(document.error());
  return scatter_document(model, cache, *document, placed.start_position, placed.segment);
}

result<void> load_document(runner& model, kv_cache& cache, const placed_document& placed,
                           document_blocks blocks) {
  std::vector<placed_block> placements;
  std::int32_t position = placed.start_position;
  for (const block::view& block : blocks) {
    placements.push_back({&block, block.bands_present(), position, placed.segment});
    position += static_cast<std::int32_t>(block.dimensions().tokens);
  }
  return scatter_blocks(model, cache, placements);
}

}  // namespace

result<void> load_documents(runner& model, kv_cache& cache, const stitch_plan& plan,
                            std::span<const document_blocks> documents) {
  if (auto checked = check_documents(model, cache, plan, documents); !checked) return checked;
  if (auto reserved = reserve_opening(cache, plan); !reserved) return reserved;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const placed_document& placed = plan.documents[i];
    result<void> done;
    if (placed.source == document_source::load)
      done = load_document(model, cache, placed, documents[i]);
    else if (encoded_alone(placed))
      done = encode_and_scatter(model, cache, plan, placed);
    if (!done) {
      cache.truncate(0);
      return done;
    }
  }
  return {};
}

result<void> prefill(runner& model, kv_cache& cache, const stitch_plan& plan, std::span<float> logits) {
  std::vector<planned_row> rows;
  std::ranges::copy_if(plan.rows, std::back_inserter(rows),
                       [&plan](const planned_row& row) { return !encoded_alone(plan, row); });
  return prefill_rows(model, cache, rows, logits);
}

result<void> prefill_rows(runner& model, kv_cache& cache, std::span<const planned_row> rows,
                          std::span<float> logits) {
  if (rows.empty())
    return fail(errc::invalid_argument, "there are no rows to compute; a prompt ends with some");
  const std::uint32_t context = model.config().max_context_tokens;
  if (static_cast<std::uint32_t>(rows.back().position) >= context)
    return fail(errc::invalid_argument, "the prompt has " + std::to_string(rows.back().position + 1) +
                                            " tokens and the model's context " + std::to_string(context) +
                                            "; ask a shorter question or with fewer documents");
  row_batch batch;
  for (const planned_row& row : rows)
    batch.add(row.token, row.position, row.segment);
  batch.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  kv_cache* const caches[] = {&cache};
  return model.forward(batch, caches, logits);
}

}  // namespace weft::engine
