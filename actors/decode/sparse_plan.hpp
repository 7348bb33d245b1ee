// What a question that is to be decoded sparsely needs: pure functions over manifests and indexes.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/actors/model_context.hpp>

#include "../manifests.hpp"

#include <span>
#include <vector>

namespace weft::actors {

// The policy and its parameters. `unsupported` for a stitching that changes documents: what is fetched later
// is what is stored.
result<policies::retrieval::options> retrieval_options(const question& asked,
                                                       const policies::stitch_policy& stitch,
                                                       std::uint32_t block_tokens);

// `unsupported` for a document that lacks rows which the policy ranks by.
result<void> check_stored_rows(const policies::retrieval::options& how,
                               std::span<const manifest_ptr> documents);

// `bands` (how many are attended) and `indexes` by document. `invalid_argument` for an index of another model
// or block size.
result<sparse_context_plan_ptr> plan_context(const model_context& model,
                                             const policies::retrieval::options& how,
                                             std::span<const manifest_ptr> documents,
                                             std::span<const std::uint32_t> bands,
                                             std::vector<sparse_index_ptr> indexes,
                                             const policies::stitch_plan& stitched);

// Consecutive blocks of a document that are always attended.
struct resident_run {
  std::uint32_t document = 0;
  std::uint32_t first_block = 0;  // of the document
  std::uint32_t blocks = 0;
  std::int32_t start_position = 0;  // in the prompt
  std::int32_t segment = 0;
};

// In the order of the prompt.
std::vector<resident_run> resident_runs(const sparse_context_plan& plan,
                                        std::span<const manifest_ptr> documents,
                                        const policies::stitch_plan& stitched);

// Rows of a session's cache, [layer][kv_head]: `added` ones of prompt and answer, and those of the documents
// that are not in middle blocks.
std::vector<std::uint32_t> resident_rows(const sparse_context_plan& plan,
                                         std::span<const manifest_ptr> documents, std::uint32_t added);

// Out of a verified block.
result<sparse_index_ptr> open_sparse_index(std::span<const std::byte> block);

}  // namespace weft::actors
