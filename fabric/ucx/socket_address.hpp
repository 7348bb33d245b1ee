// IP literals as the system's socket addresses, and the interface that one belongs to.
#pragma once

#include <weft/base/error.hpp>

#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace weft::fabric {

struct socket_address {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

// `host` is an IPv4 or IPv6 literal.
result<socket_address> make_socket_address(const std::string& host, std::uint16_t port);

std::uint16_t port_of(const sockaddr_storage& address);

// The IP literal of a name or literal that is an address of this machine.
result<std::string> resolve_own_host(const std::string& host);

// "lo", "eth0", …; empty if no interface has the address.
std::string interface_of(const std::string& host);

}  // namespace weft::fabric
