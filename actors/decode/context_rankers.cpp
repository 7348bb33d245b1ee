#include "context_rankers.hpp"

#include "../float_bytes.hpp"

#include <algorithm>
#include <map>

namespace weft::actors {

namespace {

std::uint32_t most_lines(const sparse_context_plan& plan) {
  return (plan.how.chosen == policies::retrieval::policy::kvstar ? plan.how.stride : 1) * plan.query_heads;
}

const role_handles* node_to_rank(std::uint32_t block, std::span<const machines::node_ref> holders,
                                 const cluster& now, const std::vector<const role_handles*>& all) {
  for (std::size_t i = 0; i < holders.size(); ++i) {
    const auto* handles = now.handles_of(holders[(block + i) % holders.size()].node);
    if (handles != nullptr && handles->retrieval) return handles;
  }
  return all[block % all.size()];
}

id128 id_of(const cluster& now, const role_handles* wanted) {
  const auto found =
      std::ranges::find_if(now.handles, [wanted](const auto& node) { return &node.second == wanted; });
  return found == now.handles.end() ? id128{} : found->first;
}

}  // namespace

std::vector<ranker> assign_rankers(const sparse_context_plan& plan, const cluster& now, std::uint64_t number,
                                   const holders_of_block& holders_of) {
  std::vector<ranker> rankers;
  std::vector<const role_handles*> all;
  for (const auto& [node, handles] : now.handles)
    if (handles.retrieval) all.push_back(&handles);
  if (all.empty()) return rankers;
  const std::size_t most = std::max<std::size_t>(1, most_scores_bytes / sizeof(float) / most_lines(plan));
  std::map<const role_handles*, std::size_t> open;  // the ranker of a node that takes more
  const auto middle = plan.blocks.middle_blocks();
  for (std::uint32_t block = 0; block < middle.size(); ++block) {
    const auto* node = node_to_rank(block, holders_of(block), now, all);
    auto found = open.find(node);
    if (found == open.end() || rankers[found->second].blocks.size() == most) {
      open[node] = rankers.size();
      rankers.push_back({.node = node->retrieval,
                         .id = id_of(now, node),
                         .session = number << 16U | rankers.size(),
                         .blocks = {},
                         .held = {}});
      found = open.find(node);
    }
    rankers[found->second].blocks.push_back(
        {plan.middle_keys[block], block, middle[block].document, middle[block].first_token});
  }
  return rankers;
}

retrieval_session session_of(const sparse_context_plan& plan, const machines::node_ref& reader,
                             const ranker& ranks) {
  retrieval_session what{.reader = reader,
                         .number = ranks.session,
                         .fingerprint = plan.fingerprint,
                         .policy = static_cast<std::uint8_t>(plan.how.chosen),
                         .scale = static_cast<std::uint8_t>(plan.how.scale),
                         .layers = plan.shape.layers,
                         .query_heads = plan.query_heads,
                         .kv_heads = plan.shape.kv_heads,
                         .head_dim = plan.shape.head_dim,
                         .dtype = static_cast<std::uint8_t>(plan.shape.dtype),
                         .block_tokens = plan.how.block_tokens,
                         .frequencies = bytes_of(plan.frequencies),
                         .documents = {},
                         .blocks = ranks.blocks};
  for (std::size_t i = 0; i < plan.documents.size(); ++i)
    what.documents.push_back(
        {plan.first_blocks[i], plan.documents[i].start_position, plan.documents[i].tokens});
  return what;
}

}  // namespace weft::actors
