#include <weft/policies/retrieval/block_plan.hpp>

namespace weft::policies::retrieval {

block_plan plan_blocks(std::span<const context_document> documents, const options& chosen) {
  block_plan plan;
  for (std::uint32_t number = 0; number < documents.size(); ++number) {
    const context_document& document = documents[number];
    for (std::uint32_t first = 0; first + chosen.block_tokens <= document.tokens;
         first += chosen.block_tokens)
      plan.blocks.push_back({number, first, document.start_position + static_cast<std::int32_t>(first)});
  }
  const auto full = static_cast<std::uint32_t>(plan.blocks.size());
  const std::uint64_t ends = std::uint64_t{chosen.init_blocks} + chosen.local_blocks;
  if (ends >= full) {
    plan.first_middle = full;
    return plan;
  }
  plan.first_middle = chosen.init_blocks;
  plan.middle = full - static_cast<std::uint32_t>(ends);
  plan.winners = chosen.chosen == policy::full ? plan.middle : winners_of(plan.middle, chosen.sparse_ratio);
  return plan;
}

}  // namespace weft::policies::retrieval
