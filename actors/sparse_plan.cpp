#include "sparse_plan.hpp"

#include <weft/kernels/rope.hpp>

#include <algorithm>
#include <utility>

namespace weft::actors {

namespace retrieval = policies::retrieval;

result<retrieval::options> retrieval_options(const question& asked, const policies::stitch_policy& stitch,
                                             std::uint32_t block_tokens) {
  constexpr double millionths = 1e-6;
  const auto policy = retrieval::policy_from_name(asked.retrieval);
  if (!policy) return tl::make_unexpected(policy.error());
  if (stitch.kind != policies::stitch_kind::none && stitch.kind != policies::stitch_kind::link)
    return fail(errc::unsupported, "stitching policy `" + policies::name_of(stitch) +
                                       "` computes rows of documents anew, which sparse decoding would fetch "
                                       "as they were stored; ask with --stitch none or without --retrieval");
  if (asked.documents.empty() && asked.retrieve == 0)
    return fail(errc::invalid_argument, "--retrieval chooses among blocks of documents; name one");
  retrieval::options how;
  how.chosen = *policy;
  how.block_tokens = block_tokens;
  how.sparse_ratio = asked.sparse_ratio_millionths * millionths;
  how.dim_ratio = reduced_dim_ratio;
  how.token_merge = std::min(reduced_token_merge, block_tokens);
  if (asked.stride > 0) how.stride = asked.stride;
  if (!asked.scale.empty()) {
    const auto scale = retrieval::score_scale_from_name(asked.scale);
    if (!scale) return tl::make_unexpected(scale.error());
    how.scale = *scale;
  }
  if (const auto good = retrieval::check(how); !good) return tl::make_unexpected(good.error());
  return how;
}

result<sparse_context_plan_ptr> plan_context(const model_context& model, const retrieval::options& how,
                                             std::span<const manifest_ptr> documents,
                                             std::vector<sparse_index_ptr> indexes,
                                             const policies::stitch_plan& stitched) {
  auto plan = std::make_shared<sparse_context_plan>();
  plan->how = how;
  plan->fingerprint = model.scope.fingerprint;
  plan->shape = model.shape;
  plan->query_heads = model.config.query_heads;
  plan->frequencies = model.frequencies;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const sparse_index& index = *indexes[i];
    if (index.layers != model.shape.layers || index.kv_heads != model.shape.kv_heads ||
        index.head_dim != model.shape.head_dim || index.block_tokens != how.block_tokens ||
        index.type != model.shape.dtype || documents[i]->block_tokens != how.block_tokens ||
        index.blocks != documents[i]->tokens.size() / how.block_tokens)
      return fail(errc::invalid_argument, "document " + to_hex(documents[i]->document) +
                                              " was ingested with another block size or model; ingest it "
                                              "again, or ask without --retrieval");
    const auto& placed = stitched.documents[i];
    plan->documents.push_back({placed.start_position, placed.tokens});
    plan->document_ids.push_back(documents[i]->document);
  }
  plan->indexes = std::move(indexes);
  plan->blocks = retrieval::plan_blocks(plan->documents, how);
  for (const auto& block : plan->blocks.middle_blocks())
    plan->middle_keys.push_back(documents[block.document]->block_keys[block.first_token / how.block_tokens]);
  return sparse_context_plan_ptr{std::move(plan)};
}

std::vector<resident_run> resident_runs(const sparse_context_plan& plan,
                                        std::span<const manifest_ptr> documents,
                                        const policies::stitch_plan& stitched) {
  const auto middle = plan.blocks.middle_blocks();
  std::vector<resident_run> runs;
  std::size_t next = 0;  // of the middle blocks
  for (std::uint32_t document = 0; document < documents.size(); ++document) {
    const auto& placed = stitched.documents[document];
    for (std::uint32_t block = 0; block < documents[document]->block_keys.size(); ++block) {
      const std::uint32_t first_token = block * plan.how.block_tokens;
      if (next < middle.size() && middle[next].document == document &&
          middle[next].first_token == first_token) {
        ++next;
        continue;
      }
      if (!runs.empty() && runs.back().document == document &&
          runs.back().first_block + runs.back().blocks == block) {
        ++runs.back().blocks;
        continue;
      }
      runs.push_back({document, block, 1, placed.start_position + static_cast<std::int32_t>(first_token),
                      placed.segment});
    }
  }
  return runs;
}

std::uint32_t resident_rows(const sparse_context_plan& plan, std::uint32_t prompt_and_answer_tokens) {
  return prompt_and_answer_tokens - plan.blocks.middle * plan.how.block_tokens;
}

result<sparse_index_ptr> open_sparse_index(std::span<const std::byte> block) {
  const auto parsed = block::view::parse(block);
  if (!parsed) return tl::make_unexpected(parsed.error());
  if (parsed->layout_tag() != sparse_index_tag)
    return fail(errc::corrupt, "block " + to_hex(parsed->id().key) + " is no index for sparse decoding");
  auto index = sparse_index_from_bytes(parsed->payload());
  if (!index) return tl::make_unexpected(index.error());
  return std::make_shared<const sparse_index>(std::move(*index));
}

}  // namespace weft::actors
