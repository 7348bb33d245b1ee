// Tokens that are looked for in the text itself, before it is split into words: "<|end|>" and the like.
#pragma once

#include <weft/engine/model_config.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {

struct added_token {
  token_id id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;  // looked for after the normalizer instead of before
};

class added_token_matcher {
 public:
  struct match {
    std::size_t begin = 0;
    std::size_t end = 0;
    token_id id = 0;
    bool special = false;
  };

  void add(std::string_view content, token_id id, bool special);

  // The leftmost match at or behind `from`, of those the longest.
  std::optional<match> find(std::string_view text, std::size_t from) const;

 private:
  struct node {
    std::map<unsigned char, std::uint32_t> children;
    token_id id = -1;
    bool special = false;
  };

  std::optional<match> match_at(std::string_view text, std::size_t begin) const;

  std::vector<node> nodes_{1};
  std::array<bool, 256> begins_{};
};

}  // namespace weft::engine
