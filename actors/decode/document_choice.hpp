// Which documents of the pool a question is about: the decode node computes the question by itself, the
// retrieval nodes multiply its queries with what they hold of the documents.
#pragma once

#include <weft/actors/cluster.hpp>
#include <weft/actors/work.hpp>

#include "../manifests.hpp"

#include <cstdint>
#include <functional>
#include <vector>

namespace weft::actors {

struct choice_order {
  std::uint32_t documents = 1;            // to be chosen
  std::vector<engine::token_id> opening;  // of the prompt
  std::vector<engine::token_id> question;
  duration timeout{};  // of each message
};

struct chosen_document {
  manifest_ptr manifest;
  float score = 0;
};

struct choice_outcome {
  std::vector<chosen_document> best;  // best first
  std::uint64_t ranked = 0;
  std::uint64_t unranked = 0;
};

// `not_found` where the pool holds no document, or none that can be ranked; `unreachable` where nobody ranks.
// On the actor's own strand; `manifests` and `parts` live as long as the actor.
void choose_documents(local_decode_actor::pointer self, const work_parts& parts, const cluster_ptr& now,
                      manifest_cache& manifests, choice_order order,
                      std::function<void(result<choice_outcome>)> done);

}  // namespace weft::actors
