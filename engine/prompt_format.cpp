#include <weft/engine/prompt_format.hpp>

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

void append(std::vector<token_id>& ids, const std::vector<token_id>& more) {
  ids.insert(ids.end(), more.begin(), more.end());
}

// A token that ends a turn is among the end tokens of chat models, not of base models with the same
// vocabulary.
bool ends_turns_with(const model_config& config, const tokenizer& tokens, std::string_view token) {
  const auto id = tokens.id_of(token);
  return id && std::ranges::find(config.eos_tokens, *id) != config.eos_tokens.end();
}

result<token_id> marker(const weft_metadata& metadata, const tokenizer& tokens, const std::string& text) {
  const auto it = metadata.special_tokens.find(text);
  if (it == metadata.special_tokens.end())
    return fail(errc::invalid_argument, "config.json: \"weft.special_tokens\" lacks " + text);
  if (tokens.id_of(text) != it->second)
    return fail(errc::invalid_argument, "config.json and tokenizer.json disagree on the id of " + text +
                                            "; take both from one model");
  return it->second;
}

}  // namespace

result<prompt_format> prompt_format::for_model(const model_config& config, const tokenizer& tokens) {
  prompt_format format;
  if (config.weft && config.weft->special_tokens.contains("<|doc|>")) {
    auto own = of_recall(*config.weft, tokens);
    if (!own) return own;
    format = std::move(*own);
  } else if (ends_turns_with(config, tokens, "<|eot_id|>") && tokens.id_of("<|start_header_id|>")) {
    format = of_llama3(tokens);
  } else if (ends_turns_with(config, tokens, "<|im_end|>") && tokens.id_of("<|im_start|>")) {
    format = of_qwen(tokens);
  } else {
    format = of_plain_text(tokens);
  }
  if (format.begin_.empty() && config.bos_token && config.arch == architecture::llama)
    format.begin_ = {*config.bos_token};
  append(format.ends_, config.eos_tokens);
  return format;
}

result<prompt_format> prompt_format::of_recall(const weft_metadata& metadata, const tokenizer& tokens) {
  prompt_format format;
  format.leading_space_ = true;
  const std::pair<const char*, std::vector<token_id>*> places[] = {{"<|begin|>", &format.begin_},
                                                                   {"<|doc|>", &format.document_prefix_},
                                                                   {"<|query|>", &format.question_prefix_},
                                                                   {"<|answer|>", &format.question_suffix_},
                                                                   {"<|end|>", &format.ends_}};
  for (const auto& [text, place] : places) {
    const auto id = marker(metadata, tokens, text);
    if (!id) return tl::unexpected(id.error());
    *place = {*id};
  }
  return format;
}

prompt_format prompt_format::of_llama3(const tokenizer& tokens) {
  prompt_format format;
  format.system_prefix_ = tokens.encode("<|start_header_id|>system<|end_header_id|>\n\n");
  format.system_suffix_ = tokens.encode("<|eot_id|>");
  format.context_prefix_ = tokens.encode("<|start_header_id|>user<|end_header_id|>\n\n");
  format.document_suffix_ = tokens.encode("\n\n");
  format.question_suffix_ = tokens.encode("<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
  return format;
}

prompt_format prompt_format::of_qwen(const tokenizer& tokens) {
  prompt_format format;
  format.system_prefix_ = tokens.encode("<|im_start|>system\n");
  format.system_suffix_ = tokens.encode("<|im_end|>\n");
  format.context_prefix_ = tokens.encode("<|im_start|>user\n");
  format.document_suffix_ = tokens.encode("\n\n");
  format.question_suffix_ = tokens.encode("<|im_end|>\n<|im_start|>assistant\n");
  return format;
}

prompt_format prompt_format::of_plain_text(const tokenizer& tokens) {
  prompt_format format;
  format.system_suffix_ = tokens.encode("\n\n");
  format.document_suffix_ = tokens.encode("\n\n");
  format.question_suffix_ = tokens.encode("\n");
  return format;
}

std::vector<token_id> prompt_format::encode(const tokenizer& tokens, std::string_view text) const {
  std::string spaced;
  if (leading_space_) spaced = " ";
  spaced += text;
  return tokens.encode(spaced, special_tokens::as_text);
}

std::vector<token_id> prompt_format::opening(const tokenizer& tokens, std::string_view system) const {
  auto ids = begin_;
  if (!system.empty()) {
    append(ids, system_prefix_);
    append(ids, encode(tokens, system));
    append(ids, system_suffix_);
  }
  append(ids, context_prefix_);
  return ids;
}

std::vector<token_id> prompt_format::document(const tokenizer& tokens, std::string_view text) const {
  auto ids = document_prefix_;
  append(ids, encode(tokens, text));
  append(ids, document_suffix_);
  return ids;
}

std::vector<token_id> prompt_format::question(const tokenizer& tokens, std::string_view text) const {
  auto ids = question_prefix_;
  append(ids, encode(tokens, text));
  append(ids, question_suffix_);
  return ids;
}

std::string prompt_format::answer(const tokenizer& tokens, std::span<const token_id> ids) const {
  const auto end = std::ranges::find_if(ids, [this](token_id id) { return is_end(id); });
  std::string text = tokens.decode({ids.begin(), end}, true);
  if (leading_space_ && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

std::vector<token_id> prompt_format::reply(const tokenizer& tokens, std::string_view text) const {
  return encode(tokens, text);
}

bool prompt_format::is_end(token_id id) const {
  return std::ranges::find(ends_, id) != ends_.end();
}

}  // namespace weft::engine
