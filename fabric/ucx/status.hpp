// UCX's status codes as ours.
#pragma once

#include <weft/base/error.hpp>

#include <ucs/type/status.h>

#include <string>

namespace weft::fabric {

errc code_of(ucs_status_t status);

// "<what>: <UCX's text>"
error error_of(ucs_status_t status, const std::string& what);

inline tl::unexpected<error> fail(ucs_status_t status, const std::string& what) {
  return tl::unexpected<error>{error_of(status, what)};
}

}  // namespace weft::fabric
