// Carries out a stitching plan: puts documents out of the pool into a session's cache, rotated to where they
// land in the prompt, and computes the other rows.
//
//   load_documents(model, cache, plan, blocks)   // rotate and scatter
//   prefill(model, cache, plan, logits)          // every planned row overwrites its slot; logits of the last
//
// For the next question on the same documents: `cache.truncate(start of the question)` and
// `prefill_rows(model, cache, rows of the question, logits)`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/policies/stitch.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace weft::engine {

class block_landing;

// A block of a document and where it goes.
struct placed_block {
  const block::view* block = nullptr;  // its bands are verified
  std::uint32_t bands = 0;             // how many of them are loaded
  std::int32_t start_position = 0;     // of the block's first token
  std::int32_t segment = 0;
  // What the first token's key is rotated to, where that is not where it stands.
  std::optional<std::int32_t> rotated_position = std::nullopt;
  // Where its keys and values are, if not where the view has them; then it was proven there.
  block_landing* landing = nullptr;
};

// Where the keys and values of loaded rows are wanted: in the cache, or only where they are computed with. On
// a device that takes all passes, and where nothing lies behind them in the cache, they come to the cache's
// mirror alone then, until `kv_cache::bring_home`.
enum class loaded_rows : std::uint8_t { here, where_computed };

// Adds the rows of the blocks' bands to the cache, as many per (layer, KV head) as the bands hold. A rank of
// a group takes its heads out of blocks of the whole model, and blocks of just its heads as they are. Blocks
// come by ascending position. `invalid_argument` if a block is of another shape than the cache,
// `out_of_space` where there is no room: nothing was changed then. Blocks that landed on the model's device
// are read there, and brought home where rows are wanted here. A device that fails is no error unless rows
// that it alone had are lost with it (`any_lost`), or blocks that landed there do not come home: `internal`,
// and they can be loaded anew, fetched to the host.
result<void> scatter_blocks(runner& model, kv_cache& cache, std::span<const placed_block> blocks,
                            loaded_rows wanted = loaded_rows::here);

// The same into several caches: a band's rows go to the one in their codec, and to the first where none is.
result<void> scatter_blocks(runner& model, std::span<kv_cache* const> caches,
                            std::span<const placed_block> blocks, loaded_rows wanted = loaded_rows::here);

// Whether rows that are wanted only where they are computed with come to the model's device alone.
bool rows_come_alone(runner& model);

// The same for a document that was encoded here; the same bytes as through blocks.
result<void> scatter_document(runner& model, kv_cache& cache, const encoded_document& document,
                              std::int32_t start_position, std::int32_t segment,
                              std::optional<std::int32_t> rotated_position = std::nullopt);

// What of this a plan has use for: rows of documents that it computes anew are written, or compared, here.
loaded_rows wanted_by(const policies::stitch_plan& plan, loaded_rows wanted);

// The blocks of one document of a plan, in order, none of which landed on a device. Empty for a document that
// the plan computes.
using document_blocks = std::span<const block::view>;

// Makes rows of zeros in an empty cache for what the plan computes in front of and between reused documents,
// so that no document has to move for them; without the first rows of the plan where those lie elsewhere.
// Before the documents are scattered one by one; `load_documents` does it itself.
result<void> reserve_computed_rows(kv_cache& cache, const policies::stitch_plan& plan,
                                   std::uint32_t first_row = 0);

// Fills an empty cache with the plan's documents, in the order of the prompt. Loaded ones take all bands that
// are present; those that the plan encodes are computed at position 0 and rotated like loaded ones, so that
// an answer does not depend on what was in the pool. `documents` has one entry for every document of the
// plan. In a group, all ranks load, or none does. `invalid_argument` if blocks and plan do not fit each
// other. Rows of documents that the plan computes anew are wanted here.
result<void> load_documents(runner& model, kv_cache& cache, const policies::stitch_plan& plan,
                            std::span<const document_blocks> documents,
                            loaded_rows wanted = loaded_rows::here);

// Computes the plan's rows behind `load_documents` and writes the logits of the last ones, as many as there
// is room for: [rows][vocab]. At most the question's rows can be asked for. Returns which of the plan's rows
// were computed in all layers, ascending. An observer sees a plan without a selector; one with it is
// `unsupported`.
result<std::vector<std::uint32_t>> prefill(runner& model, kv_cache& cache, const policies::stitch_plan& plan,
                                           std::span<float> logits, forward_observer* observer = nullptr);

// Those of a plan's rows from `first` to before `last`.
struct row_range {
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// The same for a part of the rows, so that what stands in front of the question is computed once for many:
// the parts come one behind the other, each into a cache that stands behind those of the ones before, or the
// same. No selector acts on rows of which none is a document's; those of documents come in one part then,
// whose cache holds the documents. `logits` may be empty.
result<void> prefill_part(runner& model, kv_cache& cache, const policies::stitch_plan& plan, row_range part,
                          std::span<float> logits, forward_observer* observer = nullptr);

// Computes these rows, which overwrite those at their positions. Logits of the last one.
result<void> prefill_rows(runner& model, kv_cache& cache, std::span<const policies::planned_row> rows,
                          std::span<float> logits);

}  // namespace weft::engine
