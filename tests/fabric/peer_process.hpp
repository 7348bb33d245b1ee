// A child process that plays the peer (fabric_peer.cpp).
#pragma once

#include "line_process.hpp"

#include <cstddef>
#include <cstdint>
#include <string>

namespace weft::fabric::testing {

class peer_process {
 public:
  peer_process(const std::string& transports, std::size_t arena_bytes, bool map_arenas,
               std::uint16_t port = 0);

  const std::string& address() const { return address_; }
  void kill() { process_.kill(); }
  void freeze() const { process_.freeze(); }
  void thaw() const { process_.thaw(); }

 private:
  weft::testing::line_process process_;
  std::string address_;
};

}  // namespace weft::fabric::testing
