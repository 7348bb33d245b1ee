#include <weft/launcher/study/scores_request.hpp>

#include <nlohmann/json.hpp>

#include <limits>
#include <string>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using nlohmann::json;

// Thrown inside this file only, turned into a `result` at its border.
struct refused {
  error what;
};

[[noreturn]] void refuse(std::string what, errc code = errc::invalid_argument) {
  throw refused{error{code, std::move(what)}};
}

template <class T>
T value_of(result<T> found) {
  if (!found) throw refused{found.error()};
  return std::move(*found);
}

const json* present(const json& object, const std::string& key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

std::uint32_t whole_number(const json& value, const std::string& key, std::uint64_t bound) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 ||
      static_cast<std::uint64_t>(value.get<std::int64_t>()) > bound)
    refuse("\"" + key + "\" must be a whole number from 0 to " + std::to_string(bound));
  return value.get<std::uint32_t>();
}

void read_number(const json& object, const std::string& key, std::uint32_t& out, std::uint32_t least = 0) {
  const json* value = present(object, key);
  if (value == nullptr) return;
  out = whole_number(*value, key, std::numeric_limits<std::int32_t>::max());
  if (out < least) refuse("\"" + key + "\" must be at least " + std::to_string(least));
}

const json& object_of(const json& value, const std::string& key) {
  if (!value.is_object()) refuse("\"" + key + "\" must be an object");
  return value;
}

std::vector<token_id> ids_of(const json& object, const std::string& key, const engine::model_config& model) {
  std::vector<token_id> ids;
  const json* list = present(object, key);
  if (list == nullptr) return ids;
  if (!list->is_array()) refuse("\"" + key + "\" must be a list of token ids");
  for (const json& id : *list)
    ids.push_back(static_cast<token_id>(whole_number(id, key, model.vocab_size - 1)));
  return ids;
}

policies::importance_policy policy_of(const json& input) {
  const json* policy = present(input, "policy");
  if (policy == nullptr) refuse("\"policy\" is missing");
  const json& name = policy->is_object() && policy->contains("name") ? policy->at("name") : *policy;
  if (!name.is_string()) refuse("\"policy\" must be a name");
  return value_of(policies::importance_policy_from_name(name.get<std::string>()));
}

engine::scoring_options options_of(const json& input) {
  engine::scoring_options options;
  const json* given = present(input, "options");
  if (given == nullptr) return options;
  const json& object = object_of(*given, "options");
  read_number(object, "window", options.window, 1);
  read_number(object, "kernel", options.pool, 1);
  read_number(object, "pool", options.pool, 1);
  read_number(object, "sinks", options.sinks);
  read_number(object, "future_tokens", options.future_tokens, 1);
  if (const json* seed = present(object, "seed")) {
    if (!seed->is_number_integer()) refuse("\"seed\" must be a whole number");
    options.seed = seed->get<std::uint64_t>();
  }
  return options;
}

std::optional<engine::repeat_prompt> repeat_of(const json& input, const engine::model_config& model) {
  const json* given = present(input, "repeat");
  if (given == nullptr) return std::nullopt;
  const json& object = object_of(*given, "repeat");
  engine::repeat_prompt prompt;
  prompt.prefix = ids_of(object, "prefix", model);
  prompt.later_prefix = ids_of(object, "later_prefix", model);
  prompt.suffix = ids_of(object, "suffix", model);
  prompt.hint_tokens = 0;
  read_number(object, "per_chunk_hint", prompt.hint_tokens);
  const json* from = present(object, "hint_from");
  if (from != nullptr && *from != "previous_tail" && *from != "chunk_head")
    refuse("\"hint_from\" must be previous_tail or chunk_head");
  prompt.hint_from = prompt.hint_tokens == 0                    ? engine::hint_source::none
                     : from != nullptr && *from == "chunk_head" ? engine::hint_source::chunk_head
                                                                : engine::hint_source::previous_tail;
  return prompt;
}

std::vector<engine::repeat_chunk> chunks_of(const json& input, std::size_t tokens) {
  std::vector<engine::repeat_chunk> chunks;
  const json* given = present(input, "chunks");
  if (given == nullptr) return chunks;
  if (!given->is_array() || given->empty()) refuse("\"chunks\" must be a list of [start, end, skip?]");
  for (const json& item : *given) {
    if (!item.is_array() || item.size() < 2 || item.size() > 3)
      refuse("\"chunks\" must be a list of [start, end, skip?]");
    chunks.push_back({whole_number(item[0], "chunks", tokens), whole_number(item[1], "chunks", tokens),
                      item.size() == 3 ? whole_number(item[2], "chunks", tokens) : 0});
  }
  return chunks;
}

std::optional<policies::budget> budget_of(const json& input, std::uint32_t system_rows) {
  const json* given = present(input, "budget");
  if (given == nullptr) return std::nullopt;
  const json& object = object_of(*given, "budget");
  const json* kind = present(object, "kind");
  const json* ratio = present(object, "ratio");
  if (kind == nullptr || !kind->is_string() || ratio == nullptr || !ratio->is_number())
    refuse("\"budget\" must be {\"kind\": name, \"ratio\": number, \"protected\"?: rows}");
  policies::budget wanted{.kind = value_of(policies::budget_kind_from_name(kind->get<std::string>()))};
  if (wanted.kind == policies::budget_kind::threshold)
    wanted.least_score = ratio->get<float>();
  else
    wanted.ratio = value_of(policies::decimal_ratio::from(ratio->get<double>()));
  wanted.protected_rows = system_rows;
  read_number(object, "protected", wanted.protected_rows);
  return wanted;
}

}  // namespace

result<scores_request> scores_request_from(const json& input, const engine::model_config& model) {
  try {
    scores_request request;
    request.sequence = value_of(sequence_request_from(input, model));
    request.policy = policy_of(input);
    read_number(input, "system", request.system_rows);
    request.options = options_of(input);
    request.repeat = repeat_of(input, model);
    request.chunks = chunks_of(input, request.sequence.tokens.size());
    if (present(input, "chunk_tokens") != nullptr)
      read_number(input, "chunk_tokens", request.chunk_tokens.emplace(), 1);
    request.budget = budget_of(input, request.system_rows);
    return request;
  } catch (const refused& r) {
    return tl::unexpected(r.what);
  }
}

}  // namespace weft::launcher::study
