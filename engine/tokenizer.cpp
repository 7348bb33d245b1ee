#include <weft/engine/tokenizer.hpp>

#include "byte_level.hpp"
#include "tokenizer_file.hpp"
#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <utility>

namespace weft::engine {

namespace {

struct freed_by_c {
  void operator()(utf8proc_uint8_t* bytes) const { std::free(bytes); }  // NOLINT: utf8proc allocates so
};

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

std::string nfc_of_valid(std::string_view text) {
  if (is_ascii(text)) return std::string{text};
  utf8proc_uint8_t* raw = nullptr;
  const auto length = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                   static_cast<utf8proc_ssize_t>(text.size()), &raw,
                                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::unique_ptr<utf8proc_uint8_t, freed_by_c> composed(raw);
  if (length < 0) throw std::runtime_error(utf8proc_errmsg(length));
  return {reinterpret_cast<const char*>(composed.get()), static_cast<std::size_t>(length)};
}

// Bytes that are not UTF-8 stay as they are.
std::string nfc(std::string_view text) {
  std::string composed;
  while (!text.empty()) {
    const auto valid = valid_prefix_bytes(text);
    composed += nfc_of_valid(text.substr(0, valid));
    text.remove_prefix(valid);
    const auto invalid = invalid_prefix_bytes(text);
    composed += text.substr(0, invalid);
    text.remove_prefix(invalid);
  }
  return composed;
}

struct entry {
  std::string bytes;
  bool special = false;
};

// What each id stands for.
std::vector<entry> entries_of(const tokenizer_file& file) {
  std::vector<entry> entries;
  const auto at = [&](token_id id) -> entry& {
    const auto index = static_cast<std::size_t>(id);
    if (index >= entries.size()) entries.resize(index + 1);
    return entries[index];
  };
  for (const auto& [characters, id] : file.vocab)
    at(id).bytes = to_bytes(characters).value_or(characters);
  for (const auto& token : file.added)
    at(token.id) = {token.content, token.special};
  return entries;
}

}  // namespace

struct tokenizer::state {
  explicit state(tokenizer_file read)
      : file(std::move(read)), merges(file.byte_ids, file.merges), entries(entries_of(file)) {
    tokens = file.vocab.size();
    for (const auto& token : file.added) {
      (token.normalized ? after_normalizer : before_normalizer)
          .add(token.normalized && file.nfc ? nfc(token.content) : token.content, token.id, token.special);
      added_ids[token.content] = token.id;
      if (!file.vocab.contains(token.content)) ++tokens;
    }
  }

  // One call of `encode`.
  struct run {
    special_tokens specials;
    merge_scratch scratch;
    std::vector<token_id> ids;
  };

  // Emits the added tokens of `text` and hands what lies between them to `plain`.
  template <class Plain>
  static void each_part(const added_token_matcher& matcher, std::string_view text, run& current,
                        Plain&& plain) {
    std::size_t reached = 0;
    std::size_t from = 0;
    while (const auto match = matcher.find(text, from)) {
      from = match->end;
      if (match->special && current.specials == special_tokens::as_text) continue;
      if (match->begin > reached) plain(text.substr(reached, match->begin - reached));
      current.ids.push_back(match->id);
      reached = match->end;
    }
    if (reached < text.size()) plain(text.substr(reached));
  }

  void encode_text(std::string_view text, run& current) const {
    each_part(before_normalizer, text, current, [&](std::string_view part) {
      const std::string composed = file.nfc ? nfc(part) : std::string{};
      each_part(after_normalizer, file.nfc ? composed : part, current,
                [&](std::string_view plain) { encode_split(plain, 0, current); });
    });
  }

  void encode_split(std::string_view part, std::size_t step, run& current) const {
    if (step == file.splits.size()) return encode_word(part, current);
    file.splits[step].each_piece(part,
                                 [&](std::string_view piece) { encode_split(piece, step + 1, current); });
  }

  void encode_word(std::string_view word, run& current) const {
    if (file.whole_words) {
      if (const auto it = file.vocab.find(to_characters(word)); it != file.vocab.end()) {
        current.ids.push_back(it->second);
        return;
      }
    }
    merges.encode(word, current.scratch, current.ids);
  }

  tokenizer_file file;
  bpe_merges merges;
  std::vector<entry> entries;
  added_token_matcher before_normalizer, after_normalizer;
  std::unordered_map<std::string, token_id> added_ids;
  std::size_t tokens = 0;
};

tokenizer::tokenizer(std::unique_ptr<const state> s) : state_(std::move(s)) {}
tokenizer::tokenizer(tokenizer&&) noexcept = default;
tokenizer& tokenizer::operator=(tokenizer&&) noexcept = default;
tokenizer::~tokenizer() = default;

result<tokenizer> tokenizer::load(const std::filesystem::path& model_folder) {
  auto file = read_tokenizer_file(model_folder / "tokenizer.json");
  if (!file) return tl::unexpected(file.error());
  return tokenizer(std::make_unique<const state>(std::move(*file)));
}

std::vector<token_id> tokenizer::encode(std::string_view text, special_tokens specials) const {
  state::run current{specials, {}, {}};
  current.ids.reserve(text.size() / 3);
  state_->encode_text(text, current);
  return std::move(current.ids);
}

std::string tokenizer::decode(std::span<const token_id> ids, bool skip_special) const {
  std::string text;
  for (const token_id id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= state_->entries.size()) continue;
    const auto& token = state_->entries[static_cast<std::size_t>(id)];
    if (!token.special || !skip_special) text += token.bytes;
  }
  return text;
}

std::optional<token_id> tokenizer::id_of(std::string_view token) const {
  const std::string text{token};
  if (const auto it = state_->added_ids.find(text); it != state_->added_ids.end()) return it->second;
  if (const auto it = state_->file.vocab.find(text); it != state_->file.vocab.end()) return it->second;
  return std::nullopt;
}

std::size_t tokenizer::vocab_size() const {
  return state_->tokens;
}

}  // namespace weft::engine
