#include <weft/engine/link_tokens.hpp>

#include <algorithm>
#include <string>

namespace weft::engine {

namespace {

constexpr token_id first_kvlink_id = 128011;
constexpr std::size_t kvlink_documents = 40;

result<std::vector<token_id>> named_links(const weft_metadata& metadata, std::uint32_t tokens) {
  std::vector<token_id> ids;
  for (std::uint32_t j = 0; j < tokens; ++j) {
    const std::string name = "<|link_" + std::to_string(j) + "|>";
    const auto it = metadata.special_tokens.find(name);
    if (it == metadata.special_tokens.end())
      return fail(errc::invalid_argument, "config.json: \"weft.special_tokens\" lacks " + name);
    ids.push_back(it->second);
  }
  return ids;
}

std::string spellings(const std::vector<std::uint32_t>& trained) {
  std::string text;
  for (const auto tokens : trained)
    text += (text.empty() ? "link(" : " or link(") + std::to_string(tokens) + ")";
  return text;
}

}  // namespace

result<std::vector<std::vector<token_id>>> link_tokens(const model_config& config, std::uint32_t tokens,
                                                       std::size_t documents) {
  std::vector<std::vector<token_id>> links(documents);
  if (tokens == 0) return links;
  const auto trained = config.weft ? config.weft->link_tokens : std::vector<std::uint32_t>{};
  if (trained.empty())
    return fail(errc::unsupported,
                "link(" + std::to_string(tokens) +
                    "): this model was trained without link tokens (\"weft.link_tokens\" of its config.json "
                    "is 0 or missing); use none, epic or blend");
  if (std::find(trained.begin(), trained.end(), tokens) == trained.end())
    return fail(errc::unsupported, "link(" + std::to_string(tokens) +
                                       "): this model was trained with another number of link tokens per "
                                       "document; use " +
                                       spellings(trained));
  if (config.weft->special_tokens.contains("<|link_0|>")) {
    const auto ids = named_links(*config.weft, tokens);
    if (!ids) return tl::unexpected(ids.error());
    links.assign(documents, *ids);
    return links;
  }
  if (documents > kvlink_documents)
    return fail(errc::invalid_argument, "this model has link tokens for " + std::to_string(kvlink_documents) +
                                            " documents; ask about fewer than " + std::to_string(documents));
  for (std::size_t i = 0; i < documents; ++i)
    for (std::uint32_t j = 0; j < tokens; ++j)
      links[i].push_back(first_kvlink_id + static_cast<token_id>(i * tokens + j));
  return links;
}

}  // namespace weft::engine
