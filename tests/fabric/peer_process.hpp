// A child process that plays the peer (fabric_peer.cpp).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace weft::fabric::testing {

class peer_process {
 public:
  peer_process(const std::string& transports, std::size_t arena_bytes, bool map_arenas,
               std::uint16_t port = 0);
  peer_process(const peer_process&) = delete;
  peer_process& operator=(const peer_process&) = delete;
  // Ends its input and checks that it leaves in order, unless it was killed.
  ~peer_process();

  const std::string& address() const { return address_; }
  void kill();
  void freeze() const;
  void thaw() const;

 private:
  void read_address(int from);

  pid_t process_ = -1;
  int input_ = -1;
  std::string address_;
};

}  // namespace weft::fabric::testing
