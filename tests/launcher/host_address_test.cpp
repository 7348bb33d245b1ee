#include <weft/launcher/host_address.hpp>

#include <doctest/doctest.h>

using namespace weft::launcher;

TEST_CASE("addresses with ports are read and written back") {
  const auto v4 = parse_host_port("127.0.0.1:7600");
  REQUIRE(v4);
  CHECK(v4->host == "127.0.0.1");
  CHECK(v4->port == 7600);
  CHECK(to_string(*v4) == "127.0.0.1:7600");
  const auto v6 = parse_host_port("[::1]:80");
  REQUIRE(v6);
  CHECK(v6->host == "::1");
  CHECK(to_string(*v6) == "[::1]:80");
  CHECK(parse_host_port("localhost:0")->host == "127.0.0.1");
}

TEST_CASE("what is no address is refused with what it should look like") {
  for (const auto* text :
       {"", "127.0.0.1", "127.0.0.1:", "127.0.0.1:70000", "127.0.0.1:80x", "node-a:80", ":80"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_host_port(text));
  }
}

TEST_CASE("loopback addresses stay on this machine") {
  CHECK(is_loopback("127.0.0.1"));
  CHECK(is_loopback("127.1.2.3"));
  CHECK(is_loopback("::1"));
  CHECK_FALSE(is_loopback("10.0.0.1"));
  CHECK_FALSE(is_loopback("0.0.0.0"));
  CHECK(is_of_this_machine("127.0.0.1"));
  CHECK_FALSE(is_of_this_machine("192.0.2.1"));
}
