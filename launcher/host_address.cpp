#include <weft/launcher/host_address.hpp>

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <memory>

namespace weft::launcher {
namespace {

std::string text_of(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return inet_ntop(family, address, text.data(), text.size()) ? text.data() : "";
}

std::string text_of(const sockaddr* address) {
  if (address == nullptr) return {};
  if (address->sa_family == AF_INET) {
    return text_of(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr);
  }
  if (address->sa_family == AF_INET6) {
    return text_of(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
  }
  return {};
}

bool is_free(std::uint16_t port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  close(fd);
  return bound;
}

}  // namespace

result<std::string> parse_host(std::string_view text) {
  const std::string host = text == "localhost" ? "127.0.0.1" : std::string(text);
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return text_of(AF_INET, &v4);
  in6_addr v6{};
  if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return text_of(AF_INET6, &v6);
  return fail(errc::invalid_argument,
              "`" + host + "` is no IP address; weft listens on explicit addresses, for example 127.0.0.1");
}

result<host_port> parse_host_port(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail(errc::invalid_argument, "`" + std::string(text) + "` has no port; write HOST:PORT");
  }
  auto host_text = text.substr(0, colon);
  const bool bracketed = host_text.size() >= 2 && host_text.front() == '[' && host_text.back() == ']';
  if (bracketed) host_text = host_text.substr(1, host_text.size() - 2);
  auto host = parse_host(host_text);
  if (!host) return tl::unexpected(host.error());
  const auto port_text = text.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, status] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (status != std::errc{} || end != port_text.data() + port_text.size()) {
    return fail(errc::invalid_argument,
                "`" + std::string(port_text) + "` is no port; write a number from 0 to 65535");
  }
  return host_port{*host, port};
}

std::string to_string(const host_port& address) {
  const bool v6 = address.host.find(':') != std::string::npos;
  return (v6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

bool is_loopback(const std::string& host) {
  in_addr v4{};
  if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return (ntohl(v4.s_addr) >> 24) == IN_LOOPBACKNET;
  in6_addr v6{};
  return inet_pton(AF_INET6, host.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

bool is_of_this_machine(const std::string& host) {
  if (is_loopback(host)) return true;
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return false;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> interfaces(found, &freeifaddrs);
  for (const auto* at = interfaces.get(); at != nullptr; at = at->ifa_next) {
    if (text_of(at->ifa_addr) == host) return true;
  }
  return false;
}

std::uint16_t free_port_from(std::uint16_t first) {
  for (std::uint32_t port = first; port < 65536 && port < first + 1000U; ++port) {
    if (is_free(static_cast<std::uint16_t>(port))) return static_cast<std::uint16_t>(port);
  }
  return first;
}

}  // namespace weft::launcher
