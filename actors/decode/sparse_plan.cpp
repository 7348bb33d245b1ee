#include "sparse_plan.hpp"

#include <weft/kernels/rope.hpp>

#include "../document_bands.hpp"

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
  how.scale = retrieval::usual_scale(how.chosen);
  if (!asked.scale.empty()) {
    const auto scale = retrieval::score_scale_from_name(asked.scale);
    if (!scale) return tl::make_unexpected(scale.error());
    how.scale = *scale;
  }
  if (const auto good = retrieval::check(how); !good) return tl::make_unexpected(good.error());
  return how;
}

result<void> check_stored_rows(const retrieval::options& how, std::span<const manifest_ptr> documents) {
  if (how.chosen == retrieval::policy::full || retrieval::ranks_by_reduced_keys(how.chosen)) return {};
  for (const auto& m : documents)
    if (m->bands.back().ratio < 1)
      return fail(errc::unsupported, "document `" + m->name + "` keeps " + decimal_of(m->bands.back().ratio) +
                                         " of its rows, and " + std::string{retrieval::name_of(how.chosen)} +
                                         " ranks blocks by all of them; ask with --retrieval kvstar or "
                                         "kvstar_ahead, or ingest it without --ratio");
  return {};
}

namespace {

// Of one (layer, KV head), in the middle blocks' wanted bands.
struct head_rows {
  std::uint32_t all = 0;
  std::uint32_t most = 0;  // of one block
};

std::vector<head_rows> middle_rows(const sparse_context_plan& plan) {
  std::vector<head_rows> rows(std::size_t{plan.shape.layers} * plan.shape.kv_heads);
  for (const auto& block : plan.blocks.middle_blocks()) {
    const sparse_index& index = *plan.indexes[block.document];
    const std::uint32_t number = block.first_token / plan.how.block_tokens;
    for (std::uint32_t layer = 0; layer < index.layers; ++layer)
      for (std::uint32_t head = 0; head < index.kv_heads; ++head) {
        const auto count = index.rows_of(number, layer, head, plan.bands[block.document]);
        auto& of_head = rows[std::size_t{layer} * index.kv_heads + head];
        of_head.all += count;
        of_head.most = std::max(of_head.most, count);
      }
  }
  return rows;
}

}  // namespace

result<sparse_context_plan_ptr> plan_context(const model_context& model, const retrieval::options& how,
                                             std::span<const manifest_ptr> documents,
                                             std::span<const std::uint32_t> bands,
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
        index.blocks != documents[i]->tokens.size() / how.block_tokens ||
        (index.blocks > 0 && index.bands != documents[i]->bands.size()))
      return fail(errc::invalid_argument, "document " + to_hex(documents[i]->document) +
                                              " was ingested with another block size or model; ingest it "
                                              "again, or ask without --retrieval");
    const auto& placed = stitched.documents[i];
    plan->documents.push_back({placed.start_position, placed.tokens});
    plan->first_blocks.push_back(documents[i]->block_keys.front());
  }
  plan->indexes = std::move(indexes);
  plan->blocks = retrieval::plan_blocks(plan->documents, how);
  plan->bands.assign(bands.begin(), bands.end());
  for (const auto& block : plan->blocks.middle_blocks()) {
    const schema::manifest& document = *documents[block.document];
    const std::uint32_t number = block.first_token / how.block_tokens;
    plan->middle_keys.push_back(document.block_keys[number]);
    plan->middle_front_bytes.push_back(front_bytes(document, number, bands[block.document]));
  }
  const auto rows = middle_rows(*plan);
  plan->slot_rows.resize(rows.size());
  std::ranges::transform(rows, plan->slot_rows.begin(), &head_rows::most);
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

std::vector<std::uint32_t> resident_rows(const sparse_context_plan& plan,
                                         std::span<const manifest_ptr> documents, std::uint32_t added) {
  const auto elsewhere = middle_rows(plan);
  std::vector<std::uint32_t> rows(elsewhere.size(), added);
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const auto stored = rows_of(*documents[i], plan.bands[i]);
    for (std::size_t head = 0; head < rows.size(); ++head)
      rows[head] += head < stored.size() ? stored[head] : plan.documents[i].tokens;
  }
  for (std::size_t head = 0; head < rows.size(); ++head)
    rows[head] -= std::min(rows[head] - added, elsewhere[head].all);
  return rows;
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
