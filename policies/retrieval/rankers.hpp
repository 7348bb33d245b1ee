// The rankers behind `make_ranker`.
#pragma once

#include <weft/policies/retrieval/block_ranker.hpp>

#include <memory>

namespace weft::policies::retrieval {

std::unique_ptr<block_ranker> make_kvstar_ranker(const options& chosen, ranked_context context);
std::unique_ptr<block_ranker> make_esa_ranker(const options& chosen, ranked_context context);
std::unique_ptr<block_ranker> make_quest_ranker(const options& chosen, ranked_context context);

}  // namespace weft::policies::retrieval
