#include "openssl_errors.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <initializer_list>

namespace weft::actors {

namespace {

// Before a read or write reaches the socket. What a handshake has found out must survive its last words.
long forget_others_errors(BIO* socket, int operation, const char*, std::size_t, int, long, int result,
                          std::size_t*) {
  const auto* const connection = reinterpret_cast<const SSL*>(BIO_get_callback_arg(socket));
  const bool reads = operation == BIO_CB_READ;
  const bool writes = operation == BIO_CB_WRITE && SSL_is_init_finished(connection) != 0;
  if (reads || writes) ERR_clear_error();
  return result;
}

// The socket is there when the handshake starts, and no sooner.
void watch_socket(const SSL* connection, int where, int) {
  if ((where & SSL_CB_HANDSHAKE_START) == 0) return;
  for (BIO* const socket : {SSL_get_rbio(connection), SSL_get_wbio(connection)}) {
    if (socket == nullptr) continue;
    BIO_set_callback_arg(socket, reinterpret_cast<char*>(const_cast<SSL*>(connection)));
    BIO_set_callback_ex(socket, forget_others_errors);
  }
}

void watch_connection(void* connection, void*, CRYPTO_EX_DATA*, int, long, void*) {
  SSL_set_info_callback(static_cast<SSL*>(connection), watch_socket);
}

}  // namespace

void keep_errors_of_connections_apart() {
  // OpenSSL has no other place at which all connections of a process pass.
  static const int watched = SSL_get_ex_new_index(0, nullptr, watch_connection, nullptr, nullptr);
  static_cast<void>(watched);
}

}  // namespace weft::actors
