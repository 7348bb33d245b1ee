// Whether certificate, key and authority belong together, before a connection fails over it.
#pragma once

#include <weft/actors/node_config.hpp>
#include <weft/base/error.hpp>

namespace weft::actors {

// Nothing where `files` names none. Else the certificate must be valid today and signed by the authority, and
// the key its own and without a passphrase; otherwise `invalid_argument` names the file.
result<void> check_tls_files(const tls_files& files);

}  // namespace weft::actors
