#include "address.hpp"

#include <doctest/doctest.h>

#include <string>

using weft::client::check_address;

TEST_CASE("addresses name a host and a port, or a socket") {
  for (const std::string good :
       {"127.0.0.1:4242", "localhost:1", "node-a.example:65535", "[::1]:80", "unix:/run/weft"})
    CHECK(check_address(good));
}

TEST_CASE("anything else is refused, with what to write") {
  for (const std::string bad : {"", ":", ":80", "host", "host:", "host:0", "host:65536", "host:80x",
                                "host:-1", "::1:80", "unix:", "a:b:80", "[::1]80"}) {
    const auto refused = check_address(bad);
    REQUIRE(!refused);
    CHECK(refused.error().context ==
          "'" + bad + "' is no gateway address; write HOST:PORT, e.g. 127.0.0.1:4242");
  }
}
