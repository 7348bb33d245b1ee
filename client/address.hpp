#pragma once

#include <weft/base/error.hpp>

#include <string>

namespace weft::client {

// Whether `address` has the form "host:port", "[v6]:port" or "unix:/path".
result<void> check_address(const std::string& address);

}  // namespace weft::client
