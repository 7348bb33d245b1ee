#include "session_rows.hpp"

#include <weft/block/digest.hpp>

#include "../document_bands.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

namespace weft::actors {

namespace {

// Fewer computed rows than that in front of the question are computed with it.
constexpr std::uint32_t least_shared_rows = 16;

// Rows of the wanted bands, by head.
std::vector<std::uint32_t> document_rows(const asked_rows& job, std::size_t heads) {
  std::vector<std::uint32_t> sum(heads, 0);
  for (std::size_t i = 0; i < job.documents.size(); ++i) {
    const auto rows = rows_of(*job.documents[i], job.bands[i]);
    for (std::size_t head = 0; head < heads; ++head)
      sum[head] += head < rows.size() ? rows[head] : job.plan->documents[i].tokens;
  }
  return sum;
}

// The same by the codec of the bands, in which attention reads them.
std::vector<base_order::part> rows_by_codec(const asked_rows& job, std::size_t heads) {
  std::map<std::uint8_t, std::vector<std::uint32_t>> sums;
  for (std::size_t i = 0; i < job.documents.size(); ++i) {
    const auto& m = *job.documents[i];
    std::vector<std::uint32_t> before(heads, 0);
    for (std::uint32_t band = 0; band < job.bands[i]; ++band) {
      auto& sum = sums.try_emplace(m.bands[band].codec, heads, 0U).first->second;
      const auto rows = rows_of(m, band + 1);
      for (std::size_t head = 0; head < heads; ++head) {
        const auto so_far = head < rows.size() ? rows[head] : job.plan->documents[i].tokens;
        sum[head] += so_far - std::exchange(before[head], so_far);
      }
    }
  }
  std::vector<base_order::part> parts;
  parts.reserve(sums.size());
  for (auto& [codec, rows] : sums)
    parts.push_back({static_cast<kernels::row_codec>(codec), std::move(rows)});
  return parts;
}

bool computes_documents(const policies::stitch_plan& plan) {
  const auto of_document = [](const auto& row) { return row.origin == policies::row_origin::document; };
  return std::ranges::any_of(plan.rows, of_document);
}

std::vector<std::int32_t> tokens_of(std::span<const policies::planned_row> rows) {
  std::vector<std::int32_t> tokens;
  for (const auto& row : rows)
    tokens.push_back(row.token);
  return tokens;
}

// Computed alone it is an exact prefix, and called like one. None where a cache of its own would cost
// attention more than it saves, or where the rows of documents are compared in one cache with all before
// them.
std::optional<computed_rows> opening_of(const asked_rows& job) {
  const auto& rows = job.plan->rows;
  const auto of_opening = [](const auto& row) { return row.origin == policies::row_origin::opening; };
  const auto count = static_cast<std::uint32_t>(std::ranges::count_if(rows, of_opening));
  if (count < least_shared_rows || job.plan->selector) return std::nullopt;
  const auto tokens = tokens_of(std::span(rows).first(count));
  return computed_rows{policies::prefix_block_keys(job.scope, {}, tokens).back(), 0, count};
}

// What all keys of rows behind an opening begin with: the opening, where these rows stand behind its own.
void add_front(block::digest& fields, const asked_rows& job, const std::optional<computed_rows>& opening) {
  fields.text(job.scope.tenant_salt).id(job.scope.fingerprint);
  fields.id(opening ? opening->key : id128{});
}

// Which documents these are, how much of them, and where they stand.
void add_documents(block::digest& fields, const asked_rows& job) {
  fields.u32(static_cast<std::uint32_t>(job.documents.size()));
  for (std::size_t i = 0; i < job.documents.size(); ++i) {
    const auto& placed = job.plan->documents[i];
    fields.id(job.documents[i]->document).u32(job.bands[i]);
    fields.u32(static_cast<std::uint32_t>(placed.start_position));
    fields.u32(static_cast<std::uint32_t>(placed.segment));
  }
}

// How rows before the question are computed: which, where, and by which policy with which parameters.
void add_computed(block::digest& fields, const asked_rows& job, std::uint32_t first) {
  const auto last = job.plan->rows_before_question();
  const auto rows = std::span(job.plan->rows).subspan(first, last - first);
  fields.text(policies::name_of(job.policy)).u32(first).tokens(tokens_of(rows));
  for (const auto& row : rows)
    fields.u32(static_cast<std::uint32_t>(row.position)).u8(static_cast<std::uint8_t>(row.origin));
}

base_order loaded_base(const asked_rows& job, const std::optional<computed_rows>& opening,
                       std::size_t heads) {
  block::digest fields("weft.base.2");
  add_front(fields, job, opening);
  add_documents(fields, job);
  return {.key = fields.finish(), .parts = rows_by_codec(job, heads)};
}

// Documents of which rows are computed anew, in one cache that holds both.
base_order computed_base(const asked_rows& job, const std::optional<computed_rows>& opening,
                         std::size_t heads) {
  const auto first = opening ? opening->last : 0;
  block::digest fields("weft.computed_base.1");
  add_front(fields, job, opening);
  add_documents(fields, job);
  add_computed(fields, job, first);
  auto rows = document_rows(job, heads);
  const auto all = job.plan->prompt_tokens - job.plan->question_rows - first;
  for (auto& of_head : rows)
    of_head = std::min(of_head + job.plan->rows_before_question() - first, all);
  return {.key = fields.finish(), .parts = {{kernels::row_codec::raw, std::move(rows)}}, .computes = true};
}

// Texts and links behind documents as they are stored.
std::optional<computed_rows> prefix_of(const asked_rows& job, const std::optional<computed_rows>& opening) {
  const auto first = opening ? opening->last : 0;
  const auto last = job.plan->rows_before_question();
  if (last - first < least_shared_rows) return std::nullopt;
  block::digest fields("weft.computed_rows.1");
  add_front(fields, job, opening);
  add_documents(fields, job);
  add_computed(fields, job, first);
  return computed_rows{fields.finish(), first, last};
}

session_order sharing_order(const asked_rows& job, std::size_t heads) {
  session_order order{.capacity_rows = {}, .base = {}, .plan = job.plan};
  order.opening = opening_of(job);
  if (computes_documents(*job.plan)) {
    order.base = computed_base(job, order.opening, heads);
  } else {
    if (!job.documents.empty()) order.base = loaded_base(job, order.opening, heads);
    order.prefix = prefix_of(job, order.opening);
  }
  const bool all_computed = order.prefix || (order.base && order.base->computes);
  const auto before = all_computed    ? job.plan->rows_before_question()
                      : order.opening ? order.opening->last
                                      : 0;
  const auto own = static_cast<std::uint32_t>(job.plan->rows.size()) - before + job.max_tokens;
  order.capacity_rows.assign(heads, own);
  return order;
}

}  // namespace

session_order session_for(const asked_rows& job, const engine::kv_shape& shape, bool shares) {
  const auto heads = std::size_t{shape.layers} * shape.kv_heads;
  if (shares) {
    auto order = sharing_order(job, heads);
    if (order.shares()) return order;
  }
  const auto all = job.plan->prompt_tokens + job.max_tokens;
  const auto added = static_cast<std::uint32_t>(job.plan->rows.size()) + job.max_tokens;
  session_order order{
      .capacity_rows = std::vector<std::uint32_t>(heads, added), .base = {}, .plan = job.plan};
  const auto documents = document_rows(job, heads);
  for (std::size_t head = 0; head < heads; ++head)
    order.capacity_rows[head] = std::min(added + documents[head], all);
  return order;
}

}  // namespace weft::actors
