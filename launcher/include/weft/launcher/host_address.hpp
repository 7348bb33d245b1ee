// IP addresses of hosts, as text.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace weft::launcher {

struct host_port {
  std::string host;
  std::uint16_t port = 0;
};

// "127.0.0.1:7600" or "[::1]:7600". Names other than "localhost", which becomes 127.0.0.1, are refused.
result<host_port> parse_host_port(std::string_view text);
std::string to_string(const host_port& address);

// The canonical text of an IPv4 or IPv6 address; "localhost" is 127.0.0.1. `invalid_argument` for anything
// else.
result<std::string> parse_host(std::string_view text);

// Whether the address reaches this machine only.
bool is_loopback(const std::string& host);

// Whether the address belongs to an interface of this machine.
bool is_of_this_machine(const std::string& host);

// The first port from `first` on that nothing listens on at 127.0.0.1 now; `first` when all are taken.
std::uint16_t free_port_from(std::uint16_t first);

}  // namespace weft::launcher
