// CAF's TLS connections share a thread, and with it OpenSSL's queue of errors.
#pragma once

namespace weft::actors {

// From here on each TLS connection of this process starts to read or write with an empty queue.
//
// CAF 0.17 asks `SSL_get_error` without emptying the queue first. OpenSSL 3 leaves an error there when a peer
// hangs up, which CAF would then take for one of the next connection that has nothing to read, and end it,
// and so on through all of them.
void keep_errors_of_connections_apart();

}  // namespace weft::actors
