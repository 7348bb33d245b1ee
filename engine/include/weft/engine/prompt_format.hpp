// How documents, a question and an answer become token ids for one model.
//
// Prompt: begin, system?, document 1 .. document N, question. A document's ids are a function of its text
// alone, so that its KV can be reused anywhere. A text that a question brings along for a place among the
// documents has the form of one. Models with `weft` metadata name their own markers; others
// get their chat template's markers (Llama 3, Qwen) or plain text.
#pragma once

#include <weft/engine/model_config.hpp>
#include <weft/engine/tokenizer.hpp>

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {

class prompt_format {
 public:
  static result<prompt_format> for_model(const model_config& config, const tokenizer& tokens);

  // What stands before the first document: the begin token, where given a system text, and the header of the
  // user's turn. Texts never become special tokens, whatever they contain.
  std::vector<token_id> opening(const tokenizer& tokens, std::string_view system) const;
  std::vector<token_id> document(const tokenizer& tokens, std::string_view text) const;
  std::vector<token_id> question(const tokenizer& tokens, std::string_view text) const;

  // What stands around a question's text.
  const std::vector<token_id>& question_prefix() const { return question_prefix_; }
  const std::vector<token_id>& question_suffix() const { return question_suffix_; }

  // The answer's text: without the end token and the marker space in front.
  std::string answer(const tokenizer& tokens, std::span<const token_id> ids) const;
  // An answer as generation would have produced it, without the end token.
  std::vector<token_id> reply(const tokenizer& tokens, std::string_view text) const;

  bool is_end(token_id id) const;

 private:
  static result<prompt_format> of_recall(const weft_metadata& metadata, const tokenizer& tokens);
  static prompt_format of_llama3(const tokenizer& tokens);
  static prompt_format of_qwen(const tokenizer& tokens);
  static prompt_format of_plain_text(const tokenizer& tokens);
  std::vector<token_id> encode(const tokenizer& tokens, std::string_view text) const;

  std::vector<token_id> begin_, system_prefix_, system_suffix_, context_prefix_;
  std::vector<token_id> document_prefix_, document_suffix_, question_prefix_, question_suffix_, ends_;
  bool leading_space_ = false;
};

}  // namespace weft::engine
