#include "find_gateway.hpp"

#include <weft/launcher/cluster_file.hpp>
#include <weft/launcher/run_folder.hpp>

#include <fstream>
#include <iterator>
#include <optional>

namespace weft::launcher {
namespace {

namespace fs = std::filesystem;

constexpr const char* cluster_file_name = "cluster.toml";
constexpr std::size_t token_bytes_max = 1024;

// A secret on one line; the end of the line is the editor's.
result<std::string> read_token(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::string token(token_bytes_max + 2, '\0');
  if (in) in.read(token.data(), static_cast<std::streamsize>(token.size()));
  if (in.bad() || in.gcount() == 0)
    return fail(errc::invalid_argument, "the token file " + file.string() +
                                            " cannot be read or is empty; --token-file names another");
  token.resize(static_cast<std::size_t>(in.gcount()));
  while (!token.empty() && (token.back() == '\n' || token.back() == '\r'))
    token.pop_back();
  if (token.empty() || token.size() > token_bytes_max)
    return fail(errc::invalid_argument, "the token file " + file.string() + " must hold one line of 1 .. " +
                                            std::to_string(token_bytes_max) + " bytes");
  return token;
}

result<cluster_file> read_cluster(const fs::path& file) {
  auto checked = read_cluster_file(file);
  if (checked.cluster) return std::move(*checked.cluster);
  const auto what = checked.mistakes.empty() ? file.string() : to_string(file, checked.mistakes.front());
  return fail(errc::invalid_argument, what + " (`weft config check` shows all)");
}

result<std::string> address_of(const cluster_file& cluster) {
  if (const auto written = read_address(cluster.run_folder, "gateway")) return to_string(*written);
  if (cluster.gateway.listen.port != 0) return to_string(cluster.gateway.listen);
  return fail(errc::unreachable,
              "the cluster of " + cluster.location.string() + " is not running; `weft up` starts it");
}

result<std::string> token_of(const fs::path& file) {
  if (file.empty()) return std::string();
  return read_token(file);
}

}  // namespace

result<found_gateway> find_gateway(const gateway_options& options, const fs::path& folder) {
  std::string address = options.gateway;
  fs::path token_file = options.token_file;
  if (address.empty()) {
    const auto file = folder / cluster_file_name;
    std::error_code ignored;
    if (!fs::exists(file, ignored))
      return fail(
          errc::unreachable,
          "no cluster is named; give --gateway HOST:PORT, set WEFT_GATEWAY or go where its cluster.toml is");
    const auto cluster = read_cluster(file);
    if (!cluster) return tl::unexpected(cluster.error());
    const auto found = address_of(*cluster);
    if (!found) return tl::unexpected(found.error());
    address = *found;
    if (token_file.empty()) token_file = cluster->gateway.token_file;
  }
  const auto token = token_of(token_file);
  if (!token) return tl::unexpected(token.error());
  return found_gateway{address, *token};
}

}  // namespace weft::launcher
