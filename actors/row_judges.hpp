// Judging the rows of question and answer while they are made (KVzap at decode, docs/importance.md).
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/surrogates.hpp>
#include <weft/policies/stitch.hpp>
#include <weft/policies/stitch_policy.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

namespace weft::actors {

// As a question asks for it; none where all rows stay. `invalid_argument` for a policy that does not score
// rows as they are made, `unsupported` where the rest of the question, or the node (`grouped`: one of
// several that compute together), does not allow it.
result<std::optional<row_judging>> judging_of(const question& asked, const policies::stitch_policy& stitch,
                                              bool grouped);

// For one session; the model and its surrogates outlive it. Errors as `engine::surrogate::load`.
result<std::unique_ptr<engine::pruned_decoding>> open_judge(engine::runner& model,
                                                            engine::surrogates& guessers,
                                                            const row_judging& wanted);

// Of the rows that are judged in a prompt: the question's, which stand last. Documents and the system's text
// stay.
std::vector<std::int32_t> judged_positions(const policies::stitch_plan& plan);

}  // namespace weft::actors
