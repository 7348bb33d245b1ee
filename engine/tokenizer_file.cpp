#include "tokenizer_file.hpp"

#include "byte_level.hpp"
#include "json_file.hpp"

#include <utility>

namespace weft::engine {

namespace {

using nlohmann::json;

constexpr std::uintmax_t file_limit_bytes = 256U << 20U;
constexpr std::int64_t vocab_limit = 1 << 22;  // ids index tables, so one wild id must not cost gigabytes

// What GPT-2's pre-tokenizer splits by when "use_regex" is set.
constexpr std::string_view gpt2_expression =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Thrown inside this file only and turned into a `result` at its border.
struct file_error {
  errc code;
  std::string what;
};

[[noreturn]] void refuse(errc code, std::string what) {
  throw file_error{code, std::move(what)};
}

const json& member(const json& object, const char* key) {
  static const json nothing;
  const auto it = object.find(key);
  return it == object.end() ? nothing : *it;
}

std::string type_of(const json& part) {
  const auto& type = member(part, "type");
  if (!type.is_string()) refuse(errc::invalid_argument, "a part has no \"type\"");
  return type.get<std::string>();
}

bool flag(const json& object, const char* key) {
  const auto& value = member(object, key);
  return value.is_boolean() && value.get<bool>();
}

token_id id_from(const json& value) {
  if (!value.is_number_integer() || value.get<std::int64_t>() < 0 || value.get<std::int64_t>() >= vocab_limit)
    refuse(errc::invalid_argument, "a token has the id " + value.dump());
  return static_cast<token_id>(value.get<std::int64_t>());
}

void read_normalizer(const json& part, tokenizer_file& file) {
  if (part.is_null()) return;
  const auto type = type_of(part);
  if (type == "NFC") {
    file.nfc = true;
  } else if (type == "Sequence") {
    for (const auto& inner : member(part, "normalizers"))
      read_normalizer(inner, file);
  } else {
    refuse(errc::unsupported, "normalizer " + type + " is not supported; NFC is");
  }
}

void add_split(result<split_pattern> pattern, tokenizer_file& file) {
  if (!pattern) refuse(pattern.error().code, pattern.error().context);
  file.splits.push_back(std::move(*pattern));
}

void read_split(const json& part, tokenizer_file& file) {
  const auto& pattern = member(part, "pattern");
  const auto& behaviour = member(part, "behavior");
  if (behaviour != "Isolated" || flag(part, "invert"))
    refuse(errc::unsupported,
           "pre-tokenizer Split with behavior " + behaviour.dump() + " is not supported; Isolated is");
  if (const auto& regex = member(pattern, "Regex"); regex.is_string())
    add_split(split_pattern::regex(regex.get<std::string>()), file);
  else if (const auto& text = member(pattern, "String"); text.is_string())
    add_split(split_pattern::literal(text.get<std::string>()), file);
  else
    refuse(errc::invalid_argument, "pre-tokenizer Split has no pattern");
}

// Returns true when the part maps bytes to characters: nothing may stand behind it.
bool read_pre_tokenizer(const json& part, tokenizer_file& file) {
  if (part.is_null()) return false;
  const auto type = type_of(part);
  if (type == "ByteLevel") {
    if (flag(part, "add_prefix_space"))
      refuse(errc::unsupported,
             "\"add_prefix_space\" is not supported: texts would not come back as they were");
    const auto& use_regex = member(part, "use_regex");
    if (use_regex.is_null() || use_regex == true) add_split(split_pattern::regex(gpt2_expression), file);
    return true;
  }
  if (type == "Split") {
    read_split(part, file);
  } else if (type == "Digits") {
    add_split(split_pattern::regex(flag(part, "individual_digits") ? R"(\p{N})" : R"(\p{N}+)"), file);
  } else if (type == "Sequence") {
    bool mapped = false;
    for (const auto& inner : member(part, "pretokenizers")) {
      if (mapped) refuse(errc::unsupported, "a pre-tokenizer behind ByteLevel is not supported");
      mapped = read_pre_tokenizer(inner, file);
    }
    return mapped;
  } else {
    refuse(errc::unsupported,
           "pre-tokenizer " + type + " is not supported; ByteLevel, Split, Digits and Sequence are");
  }
  return false;
}

void read_vocab(const json& model, tokenizer_file& file) {
  const auto& vocab = member(model, "vocab");
  if (!vocab.is_object() || vocab.empty()) refuse(errc::invalid_argument, "\"model.vocab\" is missing");
  file.vocab.reserve(vocab.size());
  for (const auto& [text, id] : vocab.items())
    file.vocab.emplace(text, id_from(id));
  for (std::size_t byte = 0; byte < file.byte_ids.size(); ++byte) {
    const auto it = file.vocab.find(std::string{character_of(static_cast<unsigned char>(byte))});
    if (it == file.vocab.end())
      refuse(errc::unsupported, "the vocabulary has no token for byte " + std::to_string(byte) +
                                    "; byte-level vocabularies have one for each");
    file.byte_ids[byte] = it->second;
  }
}

std::pair<std::string, std::string> merge_pair(const json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  if (merge.is_string()) {
    const auto text = merge.get<std::string>();
    if (const auto space = text.find(' '); space != std::string::npos)
      return {text.substr(0, space), text.substr(space + 1)};
  }
  refuse(errc::invalid_argument,
         "a merge is no pair of tokens: " + merge.dump(-1, ' ', false, json::error_handler_t::replace));
}

void read_merges(const json& model, tokenizer_file& file) {
  const auto& merges = member(model, "merges");
  if (!merges.is_array()) refuse(errc::invalid_argument, "\"model.merges\" is missing");
  const auto id = [&](const std::string& text) {
    const auto it = file.vocab.find(text);
    if (it == file.vocab.end())
      refuse(errc::invalid_argument, "merge " + std::to_string(file.merges.size()) + " names " + text +
                                         ", which is not in the vocabulary");
    return it->second;
  };
  file.merges.reserve(merges.size());
  for (const auto& merge : merges) {
    const auto [left, right] = merge_pair(merge);
    file.merges.push_back({id(left), id(right), id(left + right)});
  }
}

void read_model(const json& model, tokenizer_file& file) {
  if (!model.is_object()) refuse(errc::invalid_argument, "\"model\" is missing");
  const auto& type = member(model, "type");
  if (!type.is_null() && type != "BPE")
    refuse(errc::unsupported, "tokenizer model " + type.dump() + " is not supported; byte-level BPE is");
  for (const char* key : {"byte_fallback", "fuse_unk"})
    if (flag(model, key))
      refuse(errc::unsupported, std::string{"\""} + key +
                                    "\" belongs to a BPE that is not byte-level; weft runs byte-level BPE");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (const auto& affix = member(model, key); affix.is_string() && affix != "")
      refuse(errc::unsupported, std::string{"\""} + key + "\" is not supported");
  if (const auto& dropout = member(model, "dropout"); dropout.is_number() && dropout != 0)
    refuse(errc::unsupported, "\"dropout\" is not supported");
  file.whole_words = flag(model, "ignore_merges");
  read_vocab(model, file);
  read_merges(model, file);
}

void read_added_tokens(const json& list, tokenizer_file& file) {
  if (list.is_null()) return;
  for (const auto& item : list) {
    const auto& content = member(item, "content");
    if (!content.is_string()) refuse(errc::invalid_argument, "an added token has no \"content\"");
    for (const char* key : {"lstrip", "rstrip", "single_word"})
      if (flag(item, key))
        refuse(errc::unsupported, std::string{"added tokens with \""} + key + "\" are not supported");
    file.added.push_back({id_from(member(item, "id")), content.get<std::string>(), flag(item, "special"),
                          flag(item, "normalized")});
  }
}

}  // namespace

result<tokenizer_file> read_tokenizer_file(const std::filesystem::path& path) {
  const auto parsed = read_json_object(path, file_limit_bytes);
  if (!parsed) return tl::unexpected(parsed.error());
  tokenizer_file file;
  try {
    read_normalizer(member(*parsed, "normalizer"), file);
    if (!read_pre_tokenizer(member(*parsed, "pre_tokenizer"), file))
      refuse(errc::unsupported, "the pre-tokenizer does not end with ByteLevel; weft runs byte-level BPE");
    read_model(member(*parsed, "model"), file);
    read_added_tokens(member(*parsed, "added_tokens"), file);
  } catch (const file_error& wrong) {
    return fail(wrong.code, path.string() + ": " + wrong.what);
  }
  return file;
}

}  // namespace weft::engine
