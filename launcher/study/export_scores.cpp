#include <weft/engine/prompt_format.hpp>
#include <weft/engine/repeat_plan.hpp>
#include <weft/engine/safetensors.hpp>
#include <weft/engine/tokenizer.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/launcher/study/export_scores.hpp>

#include <algorithm>
#include <string>

namespace weft::launcher::study {

namespace {

using policies::importance_policy;

bool repeats(importance_policy policy) {
  return policy == importance_policy::kvzip || policy == importance_policy::kvzip_plus;
}

result<engine::repeat_plan> own_plan(const engine::model_config& config,
                                     const std::filesystem::path& model_folder) {
  const auto tokens = engine::tokenizer::load(model_folder);
  if (!tokens) return tl::unexpected(tokens.error());
  const auto format = engine::prompt_format::for_model(config, *tokens);
  if (!format) return tl::unexpected(format.error());
  return engine::repeat_plan_for(config, *tokens, *format);
}

result<engine::repeat_plan> plan_of(const engine::model_config& config,
                                    const std::filesystem::path& model_folder,
                                    const scores_request& request) {
  engine::repeat_plan plan;
  if (request.repeat) {
    plan.prompt = *request.repeat;
  } else {
    auto own = own_plan(config, model_folder);
    if (!own) return own;
    plan = std::move(*own);
  }
  if (request.chunk_tokens) {
    plan.by_document = false;
    plan.chunk_tokens = *request.chunk_tokens;
  }
  return plan;
}

}  // namespace

result<exported_scores> scores_of(engine::runner& model, const std::filesystem::path& model_folder,
                                  const scores_request& request) {
  engine::scoring_request wanted{.policy = request.policy,
                                 .tokens = request.sequence.tokens,
                                 .segments = request.sequence.segments,
                                 .system_rows = request.system_rows,
                                 .chunks = request.chunks,
                                 .options = request.options};
  engine::repeat_plan plan;
  if (repeats(request.policy)) {
    auto found = plan_of(model.config(), model_folder, request);
    if (!found) return tl::unexpected(found.error());
    plan = std::move(*found);
    wanted.repeat = &plan.prompt;
    const std::uint32_t end = static_cast<std::uint32_t>(request.sequence.tokens.size());
    if (wanted.chunks.empty() && request.system_rows < end)
      wanted.chunks = plan.chunks(request.sequence.segments, request.system_rows);
  }
  engine::row_scorer scorer(model);
  engine::kv_cache cache(model.cache_shape(), engine::scoring_capacity_rows(wanted));
  auto scores = scorer.score(cache, wanted);
  if (!scores) return tl::unexpected(scores.error());
  exported_scores found{std::move(*scores), std::nullopt};
  if (!request.budget) return found;
  auto kept = policies::keep_rows(found.scores, *request.budget);
  if (!kept) return tl::unexpected(kept.error());
  found.kept = std::move(*kept);
  return found;
}

result<policies::score_table> read_scores(const std::filesystem::path& file) {
  const auto opened = engine::tensor_files::open_file(file);
  if (!opened) return tl::unexpected(opened.error());
  const engine::tensor_view* tensor = opened->find("scores");
  if (tensor == nullptr || tensor->shape.size() != 3 ||
      std::ranges::find(tensor->shape, 0U) != tensor->shape.end())
    return fail(errc::invalid_argument,
                file.string() +
                    " has no tensor \"scores\" of [layers, kv_heads, tokens]; take the output of "
                    "`weft export scores`");
  policies::score_table scores({static_cast<std::uint32_t>(tensor->shape[0]),
                                static_cast<std::uint32_t>(tensor->shape[1]),
                                static_cast<std::uint32_t>(tensor->shape[2])});
  kernels::to_f32(tensor->dtype, tensor->bytes.data(), scores.values.data(), scores.values.size());
  return scores;
}

}  // namespace weft::launcher::study
