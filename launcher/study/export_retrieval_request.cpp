#include <weft/launcher/study/export_retrieval.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string>

namespace weft::launcher::study {

namespace {

using nlohmann::json;
namespace retrieval = policies::retrieval;

std::string text_of(const json& value) {
  return value.dump(-1, ' ', true, json::error_handler_t::replace);
}

// Whole numbers of 32 bits; absent: what `into` has.
result<void> read(const json& input, const char* key, std::uint32_t& into) {
  const auto it = input.find(key);
  if (it == input.end()) return {};
  if (!it->is_number_integer() || it->get<std::int64_t>() < 0 ||
      it->get<std::int64_t>() > std::numeric_limits<std::int32_t>::max())
    return fail(errc::invalid_argument,
                "\"" + std::string{key} + "\" is " + text_of(*it) + "; it must be a whole number from 0 on");
  into = it->get<std::uint32_t>();
  return {};
}

result<void> read(const json& input, const char* key, double& into) {
  const auto it = input.find(key);
  if (it == input.end()) return {};
  if (!it->is_number())
    return fail(errc::invalid_argument,
                "\"" + std::string{key} + "\" is " + text_of(*it) + "; it must be a number");
  into = it->get<double>();
  return {};
}

result<void> read_scale(const json& input, retrieval::score_scale& into) {
  const auto it = input.find("scale");
  if (it == input.end()) return {};
  if (!it->is_string())
    return fail(errc::invalid_argument, "\"scale\" must be \"none\", \"head_dim\" or \"kept_dim\"");
  const auto scale = retrieval::score_scale_from_name(it->get<std::string>());
  if (!scale) return tl::unexpected(scale.error());
  into = *scale;
  return {};
}

result<retrieval::options> options_from(const json& input) {
  retrieval::options options;
  const auto it = input.find("options");
  if (it == input.end() || it->is_null()) return options;
  if (!it->is_object()) return fail(errc::invalid_argument, "\"options\" must be an object");
  for (const auto& done :
       {read(*it, "block_tokens", options.block_tokens), read(*it, "init_blocks", options.init_blocks),
        read(*it, "local_blocks", options.local_blocks), read(*it, "sparse_ratio", options.sparse_ratio),
        read(*it, "stride", options.stride), read(*it, "dim_ratio", options.dim_ratio),
        read(*it, "token_merge", options.token_merge), read_scale(*it, options.scale)})
    if (!done) return tl::unexpected(done.error());
  if (auto checked = retrieval::check(options); !checked) return tl::unexpected(checked.error());
  return options;
}

result<std::vector<retrieval::context_document>> documents_from(const json& input, std::uint32_t system,
                                                                std::uint32_t tokens) {
  if (system >= tokens)
    return fail(errc::invalid_argument, "\"system\" is " + std::to_string(system) + " of " +
                                            std::to_string(tokens) + " tokens; it must leave some");
  std::vector<retrieval::context_document> documents;
  const auto it = input.find("documents");
  if (it == input.end() || it->is_null()) {
    documents.push_back({static_cast<std::int32_t>(system), tokens - system});
    return documents;
  }
  std::uint64_t position = system;
  if (!it->is_array()) return fail(errc::invalid_argument, "\"documents\" must be a list of lengths");
  for (const auto& length : *it) {
    if (!length.is_number_integer() || length.get<std::int64_t>() < 1 ||
        length.get<std::int64_t>() > static_cast<std::int64_t>(tokens))
      return fail(errc::invalid_argument,
                  "\"documents\" holds " + text_of(length) + "; a document has from 1 to all of the tokens");
    documents.push_back({static_cast<std::int32_t>(position), length.get<std::uint32_t>()});
    position += length.get<std::uint32_t>();
    if (position > tokens) break;
  }
  if (position != tokens)
    return fail(errc::invalid_argument, "\"system\" and \"documents\" make " + std::to_string(position) +
                                            " tokens or more, and the context has " + std::to_string(tokens));
  return documents;
}

}  // namespace

result<retrieval_request> retrieval_request_from(const json& input, const engine::model_config& model) {
  const auto context = sequence_request_from(input, model);
  if (!context) return tl::unexpected(context.error());
  if (!input.contains("question")) return fail(errc::invalid_argument, "\"question\" is missing");
  const auto question = sequence_request_from({{"tokens", input.at("question")}}, model);
  if (!question) return fail(question.error().code, "\"question\" as tokens: " + question.error().context);
  auto options = options_from(input);
  if (!options) return tl::unexpected(options.error());

  retrieval_request request{.prompt = *context,
                            .context_tokens = static_cast<std::uint32_t>(context->tokens.size()),
                            .documents = {},
                            .options = *options};
  std::uint32_t system = 0;
  if (auto done = read(input, "system", system); !done) return tl::unexpected(done.error());
  auto documents = documents_from(input, system, request.context_tokens);
  if (!documents) return tl::unexpected(documents.error());
  request.documents = std::move(*documents);

  const bool lengths_given = input.contains("documents") && !input.at("documents").is_null();
  if (lengths_given && !input.contains("segments"))
    for (std::size_t i = 0; i < request.documents.size(); ++i)
      std::fill_n(request.prompt.segments.begin() + request.documents[i].start_position,
                  request.documents[i].tokens, static_cast<std::int32_t>(i + 1));
  auto& prompt = request.prompt;
  prompt.tokens.insert(prompt.tokens.end(), question->tokens.begin(), question->tokens.end());
  prompt.segments.resize(prompt.tokens.size(), 0);
  if (prompt.tokens.size() > model.max_context_tokens)
    return fail(errc::invalid_argument, std::to_string(prompt.tokens.size()) +
                                            " tokens exceed the model's context of " +
                                            std::to_string(model.max_context_tokens));
  return request;
}

}  // namespace weft::launcher::study
