#include "ucx/socket_address.hpp"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <array>
#include <cstring>
#include <memory>

namespace weft::fabric {

namespace {

std::string literal_of(const sockaddr* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  if (address->sa_family == AF_INET) {
    const auto* in = reinterpret_cast<const sockaddr_in*>(address);
    inet_ntop(AF_INET, &in->sin_addr, text.data(), text.size());
  } else if (address->sa_family == AF_INET6) {
    const auto* in = reinterpret_cast<const sockaddr_in6*>(address);
    inet_ntop(AF_INET6, &in->sin6_addr, text.data(), text.size());
  }
  return text.data();
}

bool is_loopback_v4(const std::string& literal) {
  return literal.starts_with("127.");
}

}  // namespace

result<socket_address> make_socket_address(const std::string& host, std::uint16_t port) {
  socket_address out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.size = sizeof *v4;
  } else if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.size = sizeof *v6;
  } else {
    return fail(errc::invalid_argument, "'" + host + "' is not an IP address");
  }
  return out;
}

std::uint16_t port_of(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

result<std::string> resolve_own_host(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const auto status = getaddrinfo(host.c_str(), nullptr, &hints, &found); status != 0)
    return fail(errc::invalid_argument, "host '" + host + "': " + gai_strerror(status));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner{found, freeaddrinfo};
  for (const auto* at = found; at != nullptr; at = at->ai_next) {
    auto literal = literal_of(at->ai_addr);
    if (!interface_of(literal).empty()) return literal;
  }
  return fail(errc::invalid_argument,
              "host '" + host + "' is no address of this machine; `ip address` lists them");
}

std::string interface_of(const std::string& host) {
  if (is_loopback_v4(host)) return "lo";
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return {};
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner{found, freeifaddrs};
  for (const auto* at = found; at != nullptr; at = at->ifa_next)
    if (at->ifa_addr != nullptr && literal_of(at->ifa_addr) == host) return at->ifa_name;
  return {};
}

}  // namespace weft::fabric
