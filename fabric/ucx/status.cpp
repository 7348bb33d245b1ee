#include "ucx/status.hpp"

namespace weft::fabric {

errc code_of(ucs_status_t status) {
  switch (status) {
    case UCS_OK:
      return errc::ok;
    case UCS_ERR_INVALID_PARAM:
    case UCS_ERR_INVALID_ADDR:
      return errc::invalid_argument;
    case UCS_ERR_NO_MEMORY:
    case UCS_ERR_EXCEEDS_LIMIT:
      return errc::out_of_space;
    case UCS_ERR_NO_RESOURCE:
    case UCS_ERR_BUSY:
      return errc::io;
    case UCS_ERR_UNREACHABLE:
    case UCS_ERR_CONNECTION_RESET:
    case UCS_ERR_NOT_CONNECTED:
    case UCS_ERR_REJECTED:
    case UCS_ERR_ENDPOINT_TIMEOUT:
    case UCS_ERR_CANCELED:
    case UCS_ERR_IO_ERROR:
      return errc::unreachable;
    case UCS_ERR_TIMED_OUT:
      return errc::deadline_exceeded;
    case UCS_ERR_UNSUPPORTED:
    case UCS_ERR_NOT_IMPLEMENTED:
      return errc::unsupported;
    default:
      return errc::internal;
  }
}

error error_of(ucs_status_t status, const std::string& what) {
  return {code_of(status), what + ": " + ucs_status_string(status)};
}

}  // namespace weft::fabric
