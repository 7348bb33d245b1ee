#include "session_rows.hpp"

#include <weft/block/digest.hpp>

#include "document_bands.hpp"

#include <algorithm>
#include <map>
#include <utility>

namespace weft::actors {

namespace {

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
  for (auto& [codec, rows] : sums)
    parts.push_back({static_cast<kernels::row_codec>(codec), std::move(rows)});
  return parts;
}

// Nothing of the documents is computed for this question alone, so others may read the same rows.
bool loads_all_rows(const policies::stitch_plan& plan) {
  const auto loaded = [](const auto& d) { return d.source == policies::document_source::load; };
  const auto of_document = [](const auto& row) { return row.origin == policies::row_origin::document; };
  return !plan.documents.empty() && std::ranges::all_of(plan.documents, loaded) &&
         std::ranges::none_of(plan.rows, of_document);
}

// Which rows these are, and where they stand.
id128 base_key(const asked_rows& job) {
  block::digest fields("weft.base.1");
  for (std::size_t i = 0; i < job.documents.size(); ++i) {
    const auto& placed = job.plan->documents[i];
    fields.id(job.documents[i]->document).u32(job.bands[i]);
    fields.u32(static_cast<std::uint32_t>(placed.start_position));
    fields.u32(static_cast<std::uint32_t>(placed.segment));
  }
  return fields.finish();
}

}  // namespace

session_order session_for(const asked_rows& job, const engine::kv_shape& shape, bool shares) {
  const auto heads = std::size_t{shape.layers} * shape.kv_heads;
  const auto all = job.plan->prompt_tokens + job.max_tokens;
  const auto added = static_cast<std::uint32_t>(job.plan->rows.size()) + job.max_tokens;
  session_order order{
      .capacity_rows = std::vector<std::uint32_t>(heads, added), .base = {}, .plan = job.plan};
  if (shares && loads_all_rows(*job.plan)) {
    order.base = {base_key(job), rows_by_codec(job, heads)};
    return order;
  }
  const auto documents = document_rows(job, heads);
  for (std::size_t head = 0; head < heads; ++head)
    order.capacity_rows[head] = std::min(added + documents[head], all);
  return order;
}

}  // namespace weft::actors
