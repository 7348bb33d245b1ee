// The client library's structs as the program's JSON.
#pragma once

#include <weft/client/client.hpp>

#include <nlohmann/json_fwd.hpp>

#include <span>

namespace weft::launcher {

nlohmann::json json_of(const client::document_info& document);
nlohmann::json json_of(std::span<const client::document_info> documents);  // {"documents": [...]}
nlohmann::json json_of(const client::ask_result& answer);
nlohmann::json json_of(const client::cluster_status& status);

}  // namespace weft::launcher
