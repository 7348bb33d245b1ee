// What people call documents: the id, or the name it was ingested under.
#pragma once

#include <weft/client/client.hpp>

#include "find_gateway.hpp"

#include <span>
#include <string>
#include <vector>

namespace weft::launcher {

// An id is taken as it is; a name must be that of exactly one of `known`.
result<id128> find_document(const std::string& reference, std::span<const client::document_info> known);

// The same for all of them; the cluster is asked for its documents only where a name is among them.
result<std::vector<id128>> find_documents(client::connection& cluster,
                                          std::span<const std::string> references,
                                          const client::call_options& how);

}  // namespace weft::launcher
