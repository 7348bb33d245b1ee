#include "row_judges.hpp"

#include <weft/policies/importance.hpp>

#include <utility>

namespace weft::actors {

result<std::optional<row_judging>> judging_of(const question& asked, const policies::stitch_policy& stitch,
                                              bool grouped) {
  if (asked.judge.empty()) return std::nullopt;
  using policies::importance_policy;
  const auto policy = policies::importance_policy_from_name(asked.judge);
  if (!policy || (*policy != importance_policy::kvzap_linear && *policy != importance_policy::kvzap_mlp))
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
      .guesser = *policy == importance_policy::kvzap_mlp ? engine::surrogate_kind::mlp
                                                         : engine::surrogate_kind::linear,
      .least_score = static_cast<float>(static_cast<double>(asked.threshold_millionths) / 1e6)};
}

result<std::unique_ptr<engine::pruned_decoding>> row_judges::open(engine::runner& model,
                                                                  const row_judging& wanted) {
  auto found = guessers_.find(wanted.guesser);
  if (found == guessers_.end()) {
    auto loaded = engine::surrogate::load(engine::surrogate_file(model.folder(), wanted.guesser), model);
    if (!loaded) return tl::make_unexpected(loaded.error());
    found = guessers_.emplace(wanted.guesser, std::move(*loaded)).first;
  }
  return std::make_unique<engine::pruned_decoding>(model, found->second, wanted.least_score);
}

std::vector<std::int32_t> judged_positions(const policies::stitch_plan& plan) {
  std::vector<std::int32_t> positions;
  for (const auto& row : plan.rows)
    if (row.origin == policies::row_origin::question) positions.push_back(row.position);
  return positions;
}

}  // namespace weft::actors
