#include "added_tokens.hpp"

namespace weft::engine {

void added_token_matcher::add(std::string_view content, token_id id, bool special) {
  if (content.empty()) return;
  begins_[static_cast<unsigned char>(content.front())] = true;
  std::uint32_t at = 0;
  for (const char c : content) {
    const auto fresh = static_cast<std::uint32_t>(nodes_.size());
    const auto [child, inserted] = nodes_[at].children.emplace(static_cast<unsigned char>(c), fresh);
    at = child->second;
    if (inserted) nodes_.emplace_back();
  }
  nodes_[at].id = id;
  nodes_[at].special = special;
}

std::optional<added_token_matcher::match> added_token_matcher::find(std::string_view text,
                                                                    std::size_t from) const {
  for (std::size_t begin = from; begin < text.size(); ++begin) {
    if (!begins_[static_cast<unsigned char>(text[begin])]) continue;
    if (auto found = match_at(text, begin)) return found;
  }
  return std::nullopt;
}

std::optional<added_token_matcher::match> added_token_matcher::match_at(std::string_view text,
                                                                        std::size_t begin) const {
  std::optional<match> longest;
  std::uint32_t at = 0;
  for (std::size_t i = begin; i < text.size(); ++i) {
    const auto& children = nodes_[at].children;
    const auto child = children.find(static_cast<unsigned char>(text[i]));
    if (child == children.end()) break;
    at = child->second;
    if (nodes_[at].id >= 0) longest = match{begin, i + 1, nodes_[at].id, nodes_[at].special};
  }
  return longest;
}

}  // namespace weft::engine
