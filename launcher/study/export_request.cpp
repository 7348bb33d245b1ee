#include <weft/engine/link_tokens.hpp>
#include <weft/launcher/study/export_request.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string>
#include <type_traits>

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

// Whole numbers and the share r, which take the place of what the policy's name says or leaves out.
result<void> read_parameters(const json& object, policies::stitch_policy& policy) {
  const auto given = [&object](const char* key) -> const json* {
    const auto it = object.find(key);
    return it == object.end() || it->is_null() ? nullptr : &*it;
  };
  const auto whole = [&given](const char* key, auto& number) -> result<void> {
    const json* value = given(key);
    if (value == nullptr) return {};
    const auto most = std::numeric_limits<std::remove_reference_t<decltype(number)>>::max();
    if (!value->is_number_integer() || (!value->is_number_unsigned() && value->get<std::int64_t>() < 0) ||
        value->get<std::uint64_t>() > most)
      return fail(errc::invalid_argument, std::string{"\"policy\": \""} + key +
                                              "\" must be a whole number from 0 to " + std::to_string(most));
    number = value->get<std::remove_reference_t<decltype(number)>>();
    return {};
  };
  if (auto read = whole("k", policy.tokens); !read) return read;
  if (auto read = whole("layer", policy.layer); !read) return read;
  if (auto read = whole("seed", policy.seed); !read) return read;
  if (const json* share = given("r")) {
    if (!share->is_number()) return fail(errc::invalid_argument, "\"policy\": \"r\" must be a number");
    const auto millionths = policies::share_millionths_of(share->get<double>());
    if (!millionths) return fail(errc::invalid_argument, "\"policy\": \"r\": " + millionths.error().context);
    policy.share_millionths = *millionths;
  }
  return {};
}

result<policies::stitch_policy> policy_of(const json& input) {
  const auto it = input.find("policy");
  if (it == input.end()) return policies::stitch_policy::none;
  const auto& name = it->is_object() && it->contains("name") ? it->at("name") : *it;
  if (!name.is_string()) return fail(errc::invalid_argument, "\"policy\" must be {\"name\": ...}");
  auto policy = policies::stitch_policy_from_name(name.get<std::string>());
  if (!policy || !it->is_object()) return policy;
  if (auto read = read_parameters(*it, *policy); !read) return tl::unexpected(read.error());
  return policy;
}

// Whether a policy that inserts links gives their number itself.
bool says_how_many(const json& input) {
  const json& policy = input.at("policy");
  const json& name = policy.is_object() ? policy.at("name") : policy;
  return (policy.is_object() && policy.contains("k") && !policy.at("k").is_null()) ||
         name.get<std::string>().find('(') != std::string::npos;
}

result<std::vector<std::vector<token_id>>> links_of(const json& input, const policies::stitch_policy& policy,
                                                    std::size_t documents,
                                                    const engine::model_config& model) {
  const auto it = input.find("links");
  if (it == input.end() || it->is_null()) {
    if (policy.kind != policies::stitch_kind::link) return std::vector<std::vector<token_id>>{};
    return engine::link_tokens(model, policy.tokens, documents);
  }
  if (!it->is_array() || (!it->empty() && it->size() != documents))
    return fail(errc::invalid_argument,
                "\"links\" must be a list with one list of token ids for every document");
  std::vector<std::vector<token_id>> links;
  for (const auto& list : *it) {
    auto ids = numbers_below(list, "links", model.vocab_size);
    if (!ids) return tl::unexpected(ids.error());
    links.push_back(std::move(*ids));
  }
  return links;
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
  const auto policy = policy_of(input);
  if (!policy) return tl::unexpected(policy.error());
  request.policy = *policy;
  auto links = links_of(input, *policy, request.documents.size(), model);
  if (!links) return tl::unexpected(links.error());
  request.links = std::move(*links);
  if (policy->kind == policies::stitch_kind::link && !says_how_many(input) && !request.links.empty())
    request.policy.tokens = static_cast<std::uint32_t>(request.links.front().size());
  for (const auto& list : request.links)
    tokens += list.size();
  if (auto fits = fits_context(tokens + request.question.size(), model); !fits)
    return tl::unexpected(fits.error());
  return request;
}

}  // namespace weft::launcher::study
