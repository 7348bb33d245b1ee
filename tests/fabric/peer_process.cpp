#include "peer_process.hpp"

#include <doctest/doctest.h>

#include "hexadecimal.hpp"

namespace weft::fabric::testing {

peer_process::peer_process(const std::string& transports, std::size_t arena_bytes, bool map_arenas,
                           std::uint16_t port)
    : process_({WEFT_FABRIC_PEER, transports, std::to_string(arena_bytes), map_arenas ? "1" : "0",
                std::to_string(port)}),
      address_(weft::testing::from_hexadecimal(process_.read_line())) {
  REQUIRE(!address_.empty());
}

}  // namespace weft::fabric::testing
