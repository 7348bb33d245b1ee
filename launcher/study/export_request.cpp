#include <weft/launcher/study/export_request.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using nlohmann::json;

result<std::vector<std::int32_t>> numbers_below(const json& list, const std::string& key,
                                                std::int64_t bound) {
  if (!list.is_array())
    return fail(errc::invalid_argument, "\"" + key + "\" must be a list of whole numbers");
  std::vector<std::int32_t> numbers;
  for (const auto& item : list) {
    if (!item.is_number_integer() || item.get<std::int64_t>() < 0 || item.get<std::int64_t>() >= bound)
      return fail(errc::invalid_argument,
                  "\"" + key + "\" holds " + item.dump(-1, ' ', true, json::error_handler_t::replace) +
                      "; whole numbers from 0 to " + std::to_string(bound - 1) + " are allowed");
    numbers.push_back(item.get<std::int32_t>());
  }
  return numbers;
}

result<std::vector<token_id>> ids_of(const json& input, const std::string& key,
                                     const engine::model_config& model) {
  const auto it = input.find(key);
  if (it == input.end()) return fail(errc::invalid_argument, "\"" + key + "\" is missing");
  return numbers_below(*it, key, model.vocab_size);
}

result<void> fits_context(std::size_t tokens, const engine::model_config& model) {
  if (tokens == 0) return fail(errc::invalid_argument, "there are no tokens to compute");
  if (tokens > model.max_context_tokens)
    return fail(errc::invalid_argument, std::to_string(tokens) + " tokens exceed the model's context of " +
                                            std::to_string(model.max_context_tokens));
  return {};
}

result<policies::stitch_policy> policy_of(const json& input) {
  const auto it = input.find("policy");
  if (it == input.end()) return policies::stitch_policy::none;
  const auto& name = it->is_object() && it->contains("name") ? it->at("name") : *it;
  if (!name.is_string()) return fail(errc::invalid_argument, "\"policy\" must be {\"name\": ...}");
  return policies::stitch_policy_from_name(name.get<std::string>());
}

bool has_links(const json& input) {
  const auto it = input.find("links");
  if (it == input.end() || !it->is_array()) return false;
  for (const auto& links : *it)
    if (!links.empty()) return true;
  return false;
}

}  // namespace

result<sequence_request> sequence_request_from(const json& input, const engine::model_config& model) {
  auto tokens = ids_of(input, "tokens", model);
  if (!tokens) return tl::unexpected(tokens.error());
  if (auto fits = fits_context(tokens->size(), model); !fits) return tl::unexpected(fits.error());
  sequence_request request{std::move(*tokens), {}};
  request.segments.resize(request.tokens.size(), 0);
  const auto given = input.find("segments");
  if (given == input.end() || given->is_null()) return request;
  auto segments = numbers_below(*given, "segments", std::numeric_limits<std::int32_t>::max());
  if (!segments) return tl::unexpected(segments.error());
  if (segments->size() != request.tokens.size())
    return fail(errc::invalid_argument, "\"segments\" has " + std::to_string(segments->size()) +
                                            " entries for " + std::to_string(request.tokens.size()) +
                                            " tokens");
  request.segments = std::move(*segments);
  return request;
}

result<stitched_request> stitched_request_from(const json& input, const engine::model_config& model) {
  stitched_request request;
  if (input.contains("system")) {
    auto system = ids_of(input, "system", model);
    if (!system) return tl::unexpected(system.error());
    request.system = std::move(*system);
  }
  const auto documents = input.find("documents");
  if (documents == input.end() || !documents->is_array())
    return fail(errc::invalid_argument, "\"documents\" must be a list of lists of token ids");
  std::size_t tokens = request.system.size();
  for (const auto& list : *documents) {
    auto ids = numbers_below(list, "documents", model.vocab_size);
    if (!ids) return tl::unexpected(ids.error());
    tokens += ids->size();
    request.documents.push_back(std::move(*ids));
  }
  auto question = ids_of(input, "question", model);
  if (!question) return tl::unexpected(question.error());
  request.question = std::move(*question);
  if (auto fits = fits_context(tokens + request.question.size(), model); !fits)
    return tl::unexpected(fits.error());
  if (has_links(input)) return fail(errc::unsupported, "\"links\" are not supported; leave them out");
  const auto policy = policy_of(input);
  if (!policy) return tl::unexpected(policy.error());
  request.policy = *policy;
  return request;
}

}  // namespace weft::launcher::study
