#include <weft/policies/stitch.hpp>

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <string>

namespace weft::policies {

namespace {

tl::unexpected<error> refuse(std::string why) {
  return fail(errc::invalid_argument, std::move(why));
}

result<void> check_insertions(const stitch_policy& policy, const prompt_parts& parts) {
  const std::size_t documents = parts.documents.size();
  if (!parts.inserted.empty() && parts.inserted.size() != documents)
    return refuse("the prompt has " + std::to_string(documents) + " documents and insertions behind " +
                  std::to_string(parts.inserted.size()) + "; give one list for every document");
  if (policy.kind != stitch_kind::link || policy.tokens == 0 || documents == 0) return {};
  const bool fit = !parts.inserted.empty() && std::ranges::all_of(parts.inserted, [&](const auto& links) {
    return links.size() == policy.tokens;
  });
  if (!fit)
    return refuse(name_of(policy) + " needs " + std::to_string(policy.tokens) +
                  " link tokens behind every document");
  return {};
}

result<void> check(const stitch_policy& policy, const prompt_parts& parts) {
  if (parts.question.empty()) return refuse("the question has no tokens; a prompt needs at least one");
  if (auto fit = check_insertions(policy, parts); !fit) return fit;
  if (!parts.texts.empty() && parts.texts.size() != parts.documents.size() + 1)
    return refuse("the prompt has " + std::to_string(parts.documents.size()) + " documents and texts at " +
                  std::to_string(parts.texts.size()) + " places; there is one place more than documents");
  std::uint64_t total = std::uint64_t{parts.opening.size()} + parts.question.size();
  for (std::size_t i = 0; i < parts.documents.size(); ++i) {
    if (parts.documents[i].tokens.empty())
      return refuse("document " + std::to_string(i + 1) + " of the prompt has no tokens; leave it out");
    total += parts.documents[i].tokens.size();
  }
  for (const auto& tokens : parts.inserted)
    total += tokens.size();
  for (const auto& tokens : parts.texts)
    total += tokens.size();
  if (total > std::numeric_limits<std::int32_t>::max())
    return refuse("a prompt of " + std::to_string(total) + " tokens is too long; ask with fewer documents");
  return {};
}

// SplitMix64, the upper 24 bits.
std::vector<std::uint32_t> noise(std::uint64_t seed, std::size_t count) {
  std::vector<std::uint32_t> drawn(count);
  for (auto& value : drawn) {
    seed += 0x9E3779B97F4A7C15ULL;
    std::uint64_t mixed = seed;
    mixed = (mixed ^ (mixed >> 30U)) * 0xBF58476D1CE4E5B9ULL;
    mixed = (mixed ^ (mixed >> 27U)) * 0x94D049BB133111EBULL;
    value = static_cast<std::uint32_t>((mixed ^ (mixed >> 31U)) >> 40U);
  }
  return drawn;
}

std::uint32_t selected_rows(const stitch_policy& policy, std::uint32_t document_rows) {
  return static_cast<std::uint32_t>(rows_of_share(document_rows, policy.share_millionths));
}

// Document rows that the policy computes, one flag for each, in the order of the prompt.
std::vector<bool> forced_rows(const stitch_policy& policy, const prompt_parts& parts,
                              std::uint32_t document_rows) {
  std::vector<bool> forced(document_rows,
                           policy.kind == stitch_kind::full || policy.kind == stitch_kind::blend);
  if (policy.kind == stitch_kind::epic) {
    const bool first_of_all = parts.opening.empty() && (parts.texts.empty() || parts.texts.front().empty());
    std::size_t first_row = 0;
    for (std::size_t i = 0; i < parts.documents.size(); ++i) {
      const std::size_t tokens = parts.documents[i].tokens.size();
      // Nothing stands before it, so its rows are those of a causal prefill already.
      const bool exempt = i == 0 && first_of_all;
      const auto begin = forced.begin() + static_cast<std::ptrdiff_t>(first_row);
      std::fill_n(begin, exempt ? 0 : std::min<std::size_t>(policy.tokens, tokens), true);
      first_row += tokens;
    }
  }
  if (policy.kind == stitch_kind::random) {
    const auto drawn = noise(policy.seed, document_rows);
    std::vector<std::uint32_t> order(document_rows);
    std::iota(order.begin(), order.end(), 0U);
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) { return drawn[a] > drawn[b]; });
    order.resize(selected_rows(policy, document_rows));
    for (const std::uint32_t row : order)
      forced[row] = true;
  }
  return forced;
}

// Puts a plan together from left to right.
class planner {
 public:
  explicit planner(position_mode positions) : positions_(positions) {}

  void compute(std::span<const std::int32_t> tokens, row_origin origin) {
    for (const std::int32_t token : tokens)
      plan_.rows.push_back({token, next_++, 0, origin});
  }

  // `forced` has a flag for every row of the document.
  void place(const prompt_document& document, std::vector<bool>::const_iterator forced, bool compared) {
    const auto tokens = static_cast<std::uint32_t>(document.tokens.size());
    const auto computed = static_cast<std::uint32_t>(std::count(forced, forced + tokens, true));
    const bool reused = compared || computed < tokens;
    placed_document placed{.start_position = next_,
                           .rotated_position = positions_ == position_mode::prompt ? next_ : 0,
                           .segment = reused ? static_cast<std::int32_t>(plan_.documents.size() + 1) : 0,
                           .tokens = tokens,
                           .source = !reused           ? document_source::compute
                                     : document.stored ? document_source::load
                                                       : document_source::encode};
    if (placed.source == document_source::encode)
      placed.encode_tokens.assign(document.tokens.begin(), document.tokens.end());
    for (const std::int32_t token : document.tokens) {
      if (*forced++) plan_.rows.push_back({token, next_, 0, row_origin::document});
      ++next_;
    }
    plan_.recomputed_rows += placed.source == document_source::encode ? tokens : compared ? 0 : computed;
    plan_.document_tokens += tokens;
    plan_.documents.push_back(std::move(placed));
  }

  stitch_plan finish(std::span<const std::int32_t> question) {
    compute(question, row_origin::question);
    plan_.question_rows = static_cast<std::uint32_t>(question.size());
    plan_.prompt_tokens = static_cast<std::uint32_t>(next_);
    return std::move(plan_);
  }

 private:
  position_mode positions_;
  stitch_plan plan_;
  std::int32_t next_ = 0;
};

}  // namespace

bool stitch_plan::loads_any() const {
  return std::ranges::any_of(documents, [](const auto& d) { return d.source == document_source::load; });
}

double stitch_plan::recomputed_share(std::uint32_t layers) const {
  if (document_tokens == 0) return 0.0;
  const double in_all = static_cast<double>(recomputed_rows) / document_tokens;
  if (!selector || layers == 0) return in_all;
  const double before = std::min(selector->layer + 1, layers);
  return (before + (layers - before) * in_all) / layers;
}

result<stitch_plan> plan_stitch(const stitch_policy& policy, const prompt_parts& parts) {
  if (auto checked = check(policy, parts); !checked) return tl::unexpected(checked.error());
  std::uint32_t document_rows = 0;
  for (const auto& document : parts.documents)
    document_rows += static_cast<std::uint32_t>(document.tokens.size());
  const auto forced = forced_rows(policy, parts, document_rows);
  const bool compared = policy.kind == stitch_kind::blend;

  planner planning(parts.positions);
  planning.compute(parts.opening, row_origin::opening);
  auto flags = forced.begin();
  const auto compute_text = [&](std::size_t place) {
    if (!parts.texts.empty()) planning.compute(parts.texts[place], row_origin::text);
  };
  for (std::size_t i = 0; i < parts.documents.size(); ++i) {
    compute_text(i);
    planning.place(parts.documents[i], flags, compared);
    flags += static_cast<std::ptrdiff_t>(parts.documents[i].tokens.size());
    if (!parts.inserted.empty()) planning.compute(parts.inserted[i], row_origin::inserted);
  }
  compute_text(parts.documents.size());
  stitch_plan plan = planning.finish(parts.question);
  if (compared && document_rows > 0) {
    plan.selector = {policy.layer, selected_rows(policy, document_rows)};
    plan.recomputed_rows = std::max(plan.recomputed_rows, plan.selector->rows);
  }
  return plan;
}

}  // namespace weft::policies
