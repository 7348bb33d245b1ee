#include "row_judges.hpp"

#include <weft/policies/importance.hpp>

namespace weft::actors {

result<std::optional<row_judging>> judging_of(const question& asked, const policies::stitch_policy& stitch,
                                              bool grouped) {
  if (asked.judge.empty()) return std::nullopt;
  const auto policy = policies::importance_policy_from_name(asked.judge);
  const auto guesser = policy ? engine::surrogate_kind_of(*policy) : std::nullopt;
  if (!guesser)
    return fail(errc::invalid_argument, "rows are judged by kvzap_linear or kvzap_mlp; `" + asked.judge +
                                            "` does not score them while they are made");
  if (grouped)
    return fail(errc::unsupported,
                "a group of nodes keeps all rows of an answer; ask without --judge, or give the cluster a "
                "decode node without `group`");
  if (!asked.retrieval.empty())
    return fail(errc::unsupported,
                "sparse decoding keeps all rows of an answer; ask with --judge or with --retrieval");
  if (stitch.kind == policies::stitch_kind::blend)
    return fail(errc::unsupported, policies::name_of(stitch) +
                                       " chooses rows while it computes them; with --judge use stitch policy "
                                       "none, link, epic, random or full");
  return row_judging{
      .guesser = *guesser,
      .least_score = static_cast<float>(static_cast<double>(asked.threshold_millionths) / 1e6)};
}

result<std::unique_ptr<engine::pruned_decoding>> open_judge(engine::runner& model,
                                                            engine::surrogates& guessers,
                                                            const row_judging& wanted) {
  const auto guesser = guessers.find(wanted.guesser);
  if (!guesser) return tl::make_unexpected(guesser.error());
  return std::make_unique<engine::pruned_decoding>(model, **guesser, wanted.least_score);
}

std::vector<std::int32_t> judged_positions(const policies::stitch_plan& plan) {
  std::vector<std::int32_t> positions;
  for (const auto& row : plan.rows)
    if (row.origin == policies::row_origin::question) positions.push_back(row.position);
  return positions;
}

}  // namespace weft::actors
