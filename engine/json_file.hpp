// JSON files of a model folder, read whole; errors name the file and what is wrong inside.
#pragma once

#include <weft/base/error.hpp>

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <string>

namespace weft::engine {

// `not_found`, `io`, or `invalid_argument` for something that is not JSON, not an object or above
// `limit_bytes`.
result<nlohmann::json> read_json_object(const std::filesystem::path& file, std::uintmax_t limit_bytes);

}  // namespace weft::engine
