// Which nodes rank which middle blocks of a context that is decoded sparsely.
#pragma once

#include <weft/actors/cluster.hpp>
#include <weft/actors/remote_context.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace weft::actors {

// Of the scores that one message brings back.
inline constexpr std::size_t most_scores_bytes = max_mailbox_message_bytes / 2;

// One node's part of the ranking; a node with many blocks has several.
struct ranker {
  retrieval_actor node;
  id128 id;  // of the node
  std::uint64_t session = 0;
  std::vector<retrieval_block> blocks;
  std::vector<std::uint32_t> held;
  bool gone = false;
};

using holders_of_block = std::function<std::span<const machines::node_ref>(std::uint32_t block)>;

// A block is ranked by one of its holders if that ranks, else by any node that does, in turn; what a ranker
// answers fits a message. None where no node ranks. `number`: of the context, among those of its node.
std::vector<ranker> assign_rankers(const sparse_context_plan& plan, const cluster& now, std::uint64_t number,
                                   const holders_of_block& holders_of);

// What a ranker has to know before it is asked.
retrieval_session session_of(const sparse_context_plan& plan, const machines::node_ref& reader,
                             const ranker& ranks);

}  // namespace weft::actors
