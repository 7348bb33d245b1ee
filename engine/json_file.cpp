#include "json_file.hpp"

#include <fstream>
#include <system_error>

namespace weft::engine {

result<nlohmann::json> read_json_object(const std::filesystem::path& file, std::uintmax_t limit_bytes) {
  std::error_code code;
  if (!std::filesystem::exists(file, code))
    return fail(errc::not_found, "no " + file.string() + "; a Hugging Face model folder holds it");
  const auto size = std::filesystem::file_size(file, code);
  if (code) return fail(errc::io, "cannot read " + file.string() + ": " + code.message());
  if (size > limit_bytes)
    return fail(errc::invalid_argument, file.string() + " has " + std::to_string(size) +
                                            " bytes, more than such a file may have; download it again");
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail(errc::io, "cannot open " + file.string() + "; check its permissions");
  auto parsed = nlohmann::json::parse(in, nullptr, false);
  if (in.bad()) return fail(errc::io, "reading " + file.string() + " failed");
  if (parsed.is_discarded() || !parsed.is_object())
    return fail(errc::invalid_argument, file.string() + " is no JSON object; download it again");
  return parsed;
}

}  // namespace weft::engine
