// Cuts a text into the pieces that a regular expression or a literal isolates, as the `tokenizers` package's
// "Split" does with behaviour "Isolated": every match is a piece, and so is what lies between two matches.
#pragma once

#include <weft/base/error.hpp>

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace weft::engine {

using piece_sink = std::function<void(std::string_view)>;

class split_pattern {
 public:
  // Oniguruma's syntax, as tokenizer.json has it. `invalid_argument` if it is no regular expression.
  static result<split_pattern> regex(std::string_view expression);
  static result<split_pattern> literal(std::string_view text);

  // The pieces in order; together they are the text. Bytes that are not UTF-8 are pieces of their own. Safe
  // to call from several threads.
  void each_piece(std::string_view text, const piece_sink& sink) const;

 private:
  struct compiled;
  static result<split_pattern> compile(const std::string& expression, unsigned options);
  void each_piece_of_valid(std::string_view text, const piece_sink& sink) const;

  std::shared_ptr<const compiled> compiled_;
};

// The same expression for PCRE2, where \s has a character more (U+180E).
std::string pcre2_expression(std::string_view oniguruma);

}  // namespace weft::engine
