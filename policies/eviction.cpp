#include <weft/policies/cost_eviction.hpp>
#include <weft/policies/eviction.hpp>
#include <weft/policies/lru.hpp>
#include <weft/policies/s3_fifo.hpp>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>

namespace weft::policies {
namespace {

constexpr std::uint64_t trim_reach = 4;
constexpr std::array<std::string_view, 3> names{"lru", "s3_fifo", "cost"};

std::uint64_t times(std::uint64_t bytes, std::uint64_t factor) {
  return bytes > ~std::uint64_t{0} / factor ? ~std::uint64_t{0} : bytes * factor;
}

}  // namespace

void eviction_policy::insert(slot_index slot, const item_facts& facts) {
  if (slot == ~slot_index{0} || holds(slot))
    throw std::logic_error("slot " + std::to_string(slot) + " cannot be inserted");
  admit(slot, facts);
  if (facts.band_ends.size() > 1)
    band_ends_.emplace(slot, std::vector(facts.band_ends.begin(), facts.band_ends.end()));
}

void eviction_policy::erase(slot_index slot) {
  if (!holds(slot)) return;
  if (!band_ends_.empty()) band_ends_.erase(slot);
  remove(slot, false);
}

void eviction_policy::evict(slot_index slot) {
  if (!holds(slot)) return;
  if (!band_ends_.empty()) band_ends_.erase(slot);
  remove(slot, true);
}

void eviction_policy::trim(slot_index slot, std::uint32_t keep_bands) {
  const auto at = band_ends_.find(slot);
  if (at == band_ends_.end() || keep_bands == 0 || keep_bands >= at->second.size()) return;
  resize(slot, at->second[keep_bands - 1]);
  at->second.resize(keep_bands);
  if (keep_bands == 1) band_ends_.erase(at);
}

eviction_plan eviction_policy::trims(std::uint64_t bytes_needed, std::uint64_t reach_bytes,
                                     const may_go& allowed) {
  if (band_ends_.empty()) return {};
  return trims_of(victims(reach_bytes, allowed), bytes_needed);
}

eviction_plan eviction_policy::trims_of(const eviction_plan& coldest, std::uint64_t bytes_needed) const {
  eviction_plan plan;
  for (const slot_index slot : coldest.victims) {
    if (plan.freed_bytes >= bytes_needed) break;
    const auto bands = band_ends_.find(slot);
    if (bands == band_ends_.end()) continue;
    const std::vector<std::uint64_t>& ends = bands->second;
    auto keep = static_cast<std::uint32_t>(ends.size());
    while (keep > 1 && plan.freed_bytes + (ends.back() - ends[keep - 1]) < bytes_needed)
      --keep;
    while (keep < ends.size() && ends[keep] == ends[keep - 1])
      ++keep;  // costs nothing
    if (keep == ends.size()) continue;
    plan.trims.push_back({slot, keep});
    plan.freed_bytes += ends.back() - ends[keep - 1];
  }
  return plan;
}

eviction_plan eviction_policy::trims_and_victims(std::uint64_t bytes_needed, const may_go& allowed) {
  if (band_ends_.empty()) return victims(bytes_needed, allowed);
  const eviction_plan coldest = victims(times(bytes_needed, trim_reach), allowed);
  eviction_plan plan = trims_of(coldest, bytes_needed);
  for (const slot_index slot : coldest.victims) {
    if (plan.freed_bytes >= bytes_needed) break;
    std::uint64_t left = bytes_of(slot);
    const auto trimmed = std::ranges::find(plan.trims, slot, &band_trim::slot);
    if (trimmed != plan.trims.end()) {
      left = band_ends_.at(slot)[trimmed->keep_bands - 1];
      plan.trims.erase(trimmed);
    }
    plan.victims.push_back(slot);
    plan.freed_bytes += left;
  }
  return plan;
}

std::optional<eviction_kind> eviction_from_name(std::string_view name) {
  const auto at = std::ranges::find(names, name);
  if (at == names.end()) return std::nullopt;
  return static_cast<eviction_kind>(at - names.begin());
}

std::string_view name_of(eviction_kind kind) {
  return names.at(static_cast<std::size_t>(kind));
}

std::unique_ptr<eviction_policy> make_eviction(eviction_kind kind, std::uint64_t capacity_bytes) {
  switch (kind) {
    case eviction_kind::s3_fifo:
      return std::make_unique<s3_fifo>(capacity_bytes);
    case eviction_kind::cost:
      return std::make_unique<cost_eviction>(capacity_bytes);
    case eviction_kind::lru:
      break;
  }
  return std::make_unique<lru>();
}

}  // namespace weft::policies
