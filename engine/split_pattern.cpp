#define PCRE2_CODE_UNIT_WIDTH 8
#include "split_pattern.hpp"

#include "byte_level.hpp"
#include <pcre2.h>

#include <array>
#include <limits>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace {

template <class T, void (*Free)(T*)>
struct freed_by {
  void operator()(T* object) const { Free(object); }
};
using code_pointer = std::unique_ptr<pcre2_code, freed_by<pcre2_code, pcre2_code_free>>;
using match_data_pointer =
    std::unique_ptr<pcre2_match_data, freed_by<pcre2_match_data, pcre2_match_data_free>>;
using match_context_pointer =
    std::unique_ptr<pcre2_match_context, freed_by<pcre2_match_context, pcre2_match_context_free>>;
using compile_context_pointer =
    std::unique_ptr<pcre2_compile_context, freed_by<pcre2_compile_context, pcre2_compile_context_free>>;

// Unicode's White_Space, which is what Oniguruma means by \s.
constexpr std::string_view white_space =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

std::size_t character_bytes(std::string_view text, std::size_t at) {
  std::size_t length = 1;
  while (at + length < text.size() && (static_cast<unsigned char>(text[at + length]) & 0xc0U) == 0x80U)
    ++length;
  return length;
}

}  // namespace

struct split_pattern::compiled {
  code_pointer code;
  match_context_pointer limits;
};

std::string pcre2_expression(std::string_view oniguruma) {
  std::string translated;
  bool in_class = false;
  for (std::size_t i = 0; i < oniguruma.size(); ++i) {
    const char c = oniguruma[i];
    if (c == '\\' && i + 1 < oniguruma.size()) {
      const char escaped = oniguruma[++i];
      if (escaped == 's') {
        translated += in_class ? std::string{white_space} : "[" + std::string{white_space} + "]";
      } else if (escaped == 'S' && !in_class) {
        translated += "[^" + std::string{white_space} + "]";
      } else {
        translated += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    translated += c;
  }
  return translated;
}

result<split_pattern> split_pattern::compile(const std::string& expression, unsigned options) {
  const compile_context_pointer context(pcre2_compile_context_create(nullptr));
  if (!context) throw std::bad_alloc();
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  int code = 0;
  PCRE2_SIZE offset = 0;
  auto made = std::make_shared<compiled>();
  made->code.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                 options | PCRE2_UTF, &code, &offset, context.get()));
  if (!made->code)
    return fail(errc::invalid_argument, "the split pattern is no regular expression at character " +
                                            std::to_string(offset) + ": " + message_of(code));
  // Without a just-in-time compiler the interpreter does the same, slower.
  pcre2_jit_compile(made->code.get(), PCRE2_JIT_COMPLETE);
  made->limits.reset(pcre2_match_context_create(nullptr));
  if (!made->limits) throw std::bad_alloc();
  // The defaults are meant for hostile patterns; here a document of many megabytes of blanks is legal.
  pcre2_set_match_limit(made->limits.get(), std::numeric_limits<std::uint32_t>::max());
  pcre2_set_depth_limit(made->limits.get(), std::numeric_limits<std::uint32_t>::max());
  split_pattern pattern;
  pattern.compiled_ = std::move(made);
  return pattern;
}

result<split_pattern> split_pattern::regex(std::string_view expression) {
  // Oniguruma's ^ and $ stand at every line.
  return compile(pcre2_expression(expression), PCRE2_UCP | PCRE2_MULTILINE);
}

result<split_pattern> split_pattern::literal(std::string_view text) {
  if (text.empty()) return fail(errc::invalid_argument, "the split pattern is empty");
  return compile(std::string{text}, PCRE2_LITERAL);
}

void split_pattern::each_piece(std::string_view text, const piece_sink& sink) const {
  while (!text.empty()) {
    if (const auto valid = valid_prefix_bytes(text); valid > 0) {
      each_piece_of_valid(text.substr(0, valid), sink);
      text.remove_prefix(valid);
    }
    if (const auto invalid = invalid_prefix_bytes(text); invalid > 0) {
      sink(text.substr(0, invalid));
      text.remove_prefix(invalid);
    }
  }
}

void split_pattern::each_piece_of_valid(std::string_view text, const piece_sink& sink) const {
  const match_data_pointer match(pcre2_match_data_create_from_pattern(compiled_->code.get(), nullptr));
  if (!match) throw std::bad_alloc();
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const auto find = [&](std::size_t from, unsigned options) {
    return pcre2_match(compiled_->code.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | options,
                       match.get(), compiled_->limits.get());
  };
  std::size_t piece = 0;
  std::size_t from = 0;
  while (from < text.size()) {
    int found = find(from, 0);
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = find(from, PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) break;
    if (found < 0) throw std::runtime_error("splitting a text failed: " + message_of(found));
    const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(match.get());
    if (bounds[1] <= bounds[0]) {
      from = bounds[0] + character_bytes(text, bounds[0]);
      continue;
    }
    if (bounds[0] > piece) sink(text.substr(piece, bounds[0] - piece));
    sink(text.substr(bounds[0], bounds[1] - bounds[0]));
    piece = from = bounds[1];
  }
  if (piece < text.size()) sink(text.substr(piece));
}

}  // namespace weft::engine
