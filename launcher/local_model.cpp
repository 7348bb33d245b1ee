#include "local_model.hpp"

#include <weft/engine/generation.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/policies/stitch.hpp>

#include <utility>

namespace weft::launcher {

local_model::local_model(engine::runner model, engine::tokenizer tokens, engine::prompt_format format)
    : model_(std::move(model)), tokens_(std::move(tokens)), format_(std::move(format)) {}

result<local_model> local_model::load(const std::filesystem::path& model_folder) {
  auto model = engine::runner::load(model_folder, {});
  if (!model) return tl::unexpected(model.error());
  auto tokens = engine::tokenizer::load(model_folder);
  if (!tokens) return tl::unexpected(tokens.error());
  auto format = engine::prompt_format::for_model(model->config(), *tokens);
  if (!format) return tl::unexpected(format.error());
  return local_model(std::move(*model), std::move(*tokens), std::move(*format));
}

result<std::string> local_model::answer(const std::vector<std::string>& documents,
                                        const std::string& question, std::uint32_t max_tokens) {
  const auto opening = format_.opening(tokens_, {});
  const auto asked = format_.question(tokens_, question);
  std::vector<std::vector<engine::token_id>> ids;
  ids.reserve(documents.size());
  for (const auto& text : documents)
    ids.push_back(format_.document(tokens_, text));
  std::vector<policies::prompt_document> parts;
  parts.reserve(ids.size());
  for (const auto& document : ids)
    parts.push_back({document, false});
  const auto plan = policies::plan_stitch(policies::stitch_policy::none, {opening, parts, asked});
  if (!plan) return tl::unexpected(plan.error());

  engine::kv_cache cache(model_.cache_shape(), plan->prompt_tokens + max_tokens);
  const std::vector<engine::document_blocks> nothing_stored(documents.size());
  if (auto done = engine::load_documents(model_, cache, *plan, nothing_stored); !done) {
    return tl::unexpected(done.error());
  }
  std::vector<float> logits(model_.config().vocab_size);
  if (auto done = engine::prefill(model_, cache, *plan, logits); !done) return tl::unexpected(done.error());
  return generate(std::move(cache), static_cast<std::int32_t>(plan->prompt_tokens), logits, max_tokens);
}

result<std::string> local_model::generate(engine::kv_cache cache, std::int32_t next_position,
                                          std::span<const float> logits, std::uint32_t max_tokens) {
  engine::generation_options options;
  options.stop_tokens = model_.config().eos_tokens;
  options.max_tokens = max_tokens;
  engine::decode_batch batch(model_);
  std::vector<engine::token_id> answer;
  const auto first = batch.add(0, std::move(cache), next_position, logits, options);
  if (!first) return tl::unexpected(first.error());
  if (first->state != engine::finish::stop_token) answer.push_back(first->token);
  while (batch.active() > 0) {
    const auto made = batch.step();
    if (!made) return tl::unexpected(made.error());
    for (const auto& token : *made) {
      if (token.state != engine::finish::stop_token) answer.push_back(token.token);
    }
  }
  return format_.answer(tokens_, answer);
}

}  // namespace weft::launcher
