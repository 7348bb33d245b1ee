// Which cluster a command means.
#pragma once

#include <weft/base/error.hpp>

#include <filesystem>
#include <string>

namespace weft::launcher {

struct gateway_options {
  std::string gateway;               // --gateway or WEFT_GATEWAY; empty: from the cluster file
  std::filesystem::path token_file;  // --token-file or WEFT_TOKEN_FILE; empty: what the cluster file names
  double deadline_s = 120;
};

struct found_gateway {
  std::string address;
  std::string token;
};

// With no address given, the cluster file in `folder` is asked, and the address its gateway wrote into the
// run folder. `unreachable`: nothing names a cluster, or the named one does not run; `invalid_argument`: a
// file that cannot be used.
result<found_gateway> find_gateway(const gateway_options& options, const std::filesystem::path& folder);

}  // namespace weft::launcher
