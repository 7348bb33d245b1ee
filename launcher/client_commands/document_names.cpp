#include "document_names.hpp"

#include <algorithm>

namespace weft::launcher {

result<id128> find_document(const std::string& reference, std::span<const client::document_info> known) {
  if (const auto id = id128_from_hex(reference)) return *id;
  const auto is_named = [&](const client::document_info& d) { return d.name == reference; };
  const auto found = std::find_if(known.begin(), known.end(), is_named);
  if (reference.empty() || found == known.end())
    return fail(errc::not_found, "no document '" + reference + "'; `weft documents` lists them");
  if (std::find_if(found + 1, known.end(), is_named) != known.end())
    return fail(errc::invalid_argument,
                "several documents are named '" + reference + "'; give the id that `weft documents` lists");
  return found->id;
}

result<std::vector<id128>> find_documents(client::connection& cluster,
                                          std::span<const std::string> references,
                                          const client::call_options& how) {
  const bool all_ids = std::all_of(references.begin(), references.end(),
                                   [](const std::string& r) { return id128_from_hex(r).has_value(); });
  std::vector<client::document_info> known;
  if (!all_ids) {
    auto listed = cluster.documents(how);
    if (!listed) return tl::unexpected(listed.error());
    known = std::move(*listed);
  }
  std::vector<id128> ids;
  for (const auto& reference : references) {
    const auto id = find_document(reference, known);
    if (!id) return tl::unexpected(id.error());
    ids.push_back(*id);
  }
  return ids;
}

}  // namespace weft::launcher
