#include <weft/policies/stitch.hpp>

#include <array>
#include <cstddef>
#include <limits>
#include <string>
#include <utility>

namespace weft::policies {

namespace {

constexpr std::array<std::pair<std::string_view, stitch_policy>, 2> named_policies{{
    {"none", stitch_policy::none},
    {"full", stitch_policy::full},
}};

std::string supported_names() {
  std::string names;
  for (const auto& [name, policy] : named_policies)
    names += (names.empty() ? "" : ", ") + std::string{name};
  return names;
}

result<void> check(const prompt_parts& parts) {
  if (parts.question.empty())
    return fail(errc::invalid_argument, "the question has no tokens; a prompt needs at least one");
  std::uint64_t total = std::uint64_t{parts.opening.size()} + parts.question.size();
  for (std::size_t i = 0; i < parts.documents.size(); ++i) {
    if (parts.documents[i].tokens.empty())
      return fail(errc::invalid_argument,
                  "document " + std::to_string(i + 1) + " of the prompt has no tokens; leave it out");
    total += parts.documents[i].tokens.size();
  }
  if (total > std::numeric_limits<std::int32_t>::max())
    return fail(errc::invalid_argument,
                "a prompt of " + std::to_string(total) + " tokens is too long; ask with fewer documents");
  return {};
}

void append(stitch_plan& plan, std::span<const std::int32_t> tokens, std::int32_t start, std::int32_t segment,
            row_origin origin) {
  for (const std::int32_t token : tokens)
    plan.rows.push_back({token, start++, segment, origin});
}

placed_document place_document(stitch_policy policy, const prompt_document& document, std::size_t index,
                               std::uint32_t start) {
  const bool causal = policy == stitch_policy::full;
  return {.start_position = static_cast<std::int32_t>(start),
          .segment = causal ? 0 : static_cast<std::int32_t>(index + 1),
          .tokens = static_cast<std::uint32_t>(document.tokens.size()),
          .source = causal || !document.stored ? document_source::compute : document_source::load};
}

}  // namespace

std::string_view name_of(stitch_policy policy) {
  for (const auto& [name, candidate] : named_policies)
    if (candidate == policy) return name;
  return "unknown";
}

result<stitch_policy> stitch_policy_from_name(std::string_view name) {
  for (const auto& [candidate, policy] : named_policies)
    if (candidate == name) return policy;
  return fail(errc::unsupported,
              "no stitch policy `" + std::string{name} + "`; supported: " + supported_names());
}

double stitch_plan::recomputed_share() const {
  return document_tokens == 0 ? 0.0 : static_cast<double>(recomputed_rows) / document_tokens;
}

result<stitch_plan> plan_stitch(stitch_policy policy, const prompt_parts& parts) {
  if (auto checked = check(parts); !checked) return tl::unexpected(checked.error());
  stitch_plan plan;
  append(plan, parts.opening, 0, 0, row_origin::opening);
  auto position = static_cast<std::uint32_t>(parts.opening.size());
  for (std::size_t i = 0; i < parts.documents.size(); ++i) {
    const placed_document placed = place_document(policy, parts.documents[i], i, position);
    if (placed.source == document_source::compute) {
      append(plan, parts.documents[i].tokens, placed.start_position, placed.segment, row_origin::document);
      plan.recomputed_rows += placed.tokens;
    }
    plan.documents.push_back(placed);
    plan.document_tokens += placed.tokens;
    position += placed.tokens;
  }
  append(plan, parts.question, static_cast<std::int32_t>(position), 0, row_origin::question);
  plan.question_rows = static_cast<std::uint32_t>(parts.question.size());
  plan.prompt_tokens = position + plan.question_rows;
  return plan;
}

}  // namespace weft::policies
