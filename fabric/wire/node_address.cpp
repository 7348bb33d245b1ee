#include <weft/fabric/wire/node_address.hpp>

#include "wire/little_endian.hpp"
#include <arpa/inet.h>

#include <array>
#include <limits>

namespace weft::fabric {

namespace {

constexpr std::uint32_t magic = 0x31414657;  // "WFA1"
constexpr std::size_t fixed_bytes = 64;
constexpr std::size_t host_at = 8;

enum class host_family : std::uint8_t { none = 0, ipv4 = 4, ipv6 = 6 };

using fixed_part = std::array<std::byte, fixed_bytes>;

result<void> put_host(fixed_part& out, const std::string& host) {
  auto family = host_family::none;
  if (host.empty()) {
    family = host_family::none;
  } else if (inet_pton(AF_INET, host.c_str(), out.data() + host_at) == 1) {
    family = host_family::ipv4;
  } else if (inet_pton(AF_INET6, host.c_str(), out.data() + host_at) == 1) {
    family = host_family::ipv6;
  } else {
    return fail(errc::invalid_argument, "'" + host + "' is not an IP address; give the one that peers reach");
  }
  out[6] = static_cast<std::byte>(family);
  return {};
}

result<std::string> host_of(std::span<const std::byte> bytes) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  switch (static_cast<host_family>(bytes[6])) {
    case host_family::none:
      return std::string{};
    case host_family::ipv4:
      inet_ntop(AF_INET, bytes.data() + host_at, text.data(), text.size());
      return std::string{text.data()};
    case host_family::ipv6:
      inet_ntop(AF_INET6, bytes.data() + host_at, text.data(), text.size());
      return std::string{text.data()};
  }
  return fail(errc::invalid_argument, "a node address with an unknown host family");
}

result<void> check_frame(std::span<const std::byte> bytes) {
  if (bytes.size() < fixed_bytes || bytes.size() > max_address_bytes ||
      get<std::uint32_t>(bytes.data()) != magic)
    return fail(errc::invalid_argument,
                "not a node address of weft (" + std::to_string(bytes.size()) + " bytes)");
  const auto version = get<std::uint16_t>(bytes.data() + 4);
  if (version != protocol_version)
    return fail(errc::unsupported, "a node address of fabric protocol " + std::to_string(version) +
                                       ", this build speaks " + std::to_string(protocol_version));
  const auto rkey_bytes = get<std::uint16_t>(bytes.data() + 26);
  if (rkey_bytes > max_rkey_bytes || bytes.size() != fixed_bytes + rkey_bytes)
    return fail(errc::invalid_argument,
                "a node address of the wrong length (" + std::to_string(bytes.size()) + ")");
  return {};
}

}  // namespace

result<std::string> encode(const node_address& address) {
  if (address.rkey.size() > max_rkey_bytes)
    return fail(errc::invalid_argument, "a remote key of " + std::to_string(address.rkey.size()) +
                                            " bytes, at most " + std::to_string(max_rkey_bytes) +
                                            " fit; use fewer transports");
  fixed_part fixed{};
  put(fixed.data(), magic);
  put(fixed.data() + 4, protocol_version);
  if (auto host = put_host(fixed, address.host); !host) return tl::unexpected{host.error()};
  put(fixed.data() + 24, address.port);
  put(fixed.data() + 26, static_cast<std::uint16_t>(address.rkey.size()));
  put(fixed.data() + 32, address.nonce.high);
  put(fixed.data() + 40, address.nonce.low);
  put(fixed.data() + 48, address.arena_base);
  put(fixed.data() + 56, address.arena_bytes);
  std::string out(reinterpret_cast<const char*>(fixed.data()), fixed.size());
  out.append(reinterpret_cast<const char*>(address.rkey.data()), address.rkey.size());
  return out;
}

result<node_address> parse_node_address(std::span<const std::byte> bytes) {
  if (auto frame = check_frame(bytes); !frame) return tl::unexpected{frame.error()};
  auto host = host_of(bytes);
  if (!host) return tl::unexpected{host.error()};
  node_address address;
  address.host = std::move(*host);
  address.port = get<std::uint16_t>(bytes.data() + 24);
  address.nonce = {get<std::uint64_t>(bytes.data() + 32), get<std::uint64_t>(bytes.data() + 40)};
  address.arena_base = get<std::uint64_t>(bytes.data() + 48);
  address.arena_bytes = get<std::uint64_t>(bytes.data() + 56);
  const auto behind_base = std::numeric_limits<std::uint64_t>::max() - address.arena_base;
  if (behind_base < probe_area_bytes || address.arena_bytes > behind_base - probe_area_bytes)
    return fail(errc::invalid_argument, "a node address with an arena beyond the address space");
  address.rkey.assign(bytes.begin() + fixed_bytes, bytes.end());
  return address;
}

}  // namespace weft::fabric
