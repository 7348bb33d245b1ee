// tokenizer.json of byte-level BPE models: the same ids as the `tokenizers` package, any bytes round-trip.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/model_config.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {

enum class special_tokens : bool { as_text = false, recognised = true };

class tokenizer {
 public:
  static result<tokenizer> load(const std::filesystem::path& model_folder);
  tokenizer(tokenizer&&) noexcept;
  tokenizer& operator=(tokenizer&&) noexcept;
  ~tokenizer();

  // Safe to call from several threads.
  std::vector<token_id> encode(std::string_view text,
                               special_tokens specials = special_tokens::recognised) const;

  // The exact bytes that the ids stand for; `skip_special` leaves special tokens out.
  std::string decode(std::span<const token_id> ids, bool skip_special = false) const;

  std::optional<token_id> id_of(std::string_view token) const;  // "<|answer|>"
  std::size_t vocab_size() const;

 private:
  struct state;
  explicit tokenizer(std::unique_ptr<const state> s);
  std::unique_ptr<const state> state_;
};

}  // namespace weft::engine
