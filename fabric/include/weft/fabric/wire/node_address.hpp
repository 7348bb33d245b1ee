// A node as its peers reach it: host, port, and the arena that they may read (docs/fabric-protocol.md, 1).
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace weft::fabric {

inline constexpr std::uint16_t protocol_version = 2;
inline constexpr std::size_t max_address_bytes = 1024;
inline constexpr std::size_t max_rkey_bytes = 900;
// As many follow an arena. Peers read them to measure their way there, and nobody writes them.
inline constexpr std::uint64_t probe_area_bytes = std::uint64_t{256} << 10;

struct node_address {
  std::string host;  // IPv4 or IPv6 literal; empty: reachable in this process only
  std::uint16_t port = 0;
  id128 nonce;                   // new at each start of the node
  std::uint64_t arena_base = 0;  // virtual address in the owner
  std::uint64_t arena_bytes = 0;
  std::vector<std::byte> rkey;

  // What peers may read: the arena and the probe area behind it.
  std::uint64_t readable_bytes() const { return arena_bytes + probe_area_bytes; }
};

// `host` is a literal and `rkey` at most `max_rkey_bytes`, else invalid_argument.
result<std::string> encode(const node_address& address);

// Any bytes may be given. invalid_argument, or unsupported for another version.
result<node_address> parse_node_address(std::span<const std::byte> bytes);

}  // namespace weft::fabric
