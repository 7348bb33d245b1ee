#include <weft/schema/rpc_error.hpp>
#include <weft/schema/weft.capnp.h>

#include <capnp/ez-rpc.h>
#include <doctest/doctest.h>

#include "scripted_backend.hpp"
#include "token.hpp"

using namespace weft;
using launcher::gateway::server_options;
using launcher::gateway::testing::running_gateway;

namespace {

const std::string secret = "correct horse battery staple";

server_options with_token() {
  server_options options;
  options.token = secret;
  options.refusal_delay = std::chrono::milliseconds(1);
  return options;
}

// What a client of another make gets told when it says hello.
error hello(const running_gateway& gateway, std::uint16_t major, const std::string& token) {
  capnp::EzRpcClient raw(gateway.server->address());
  auto request = raw.getMain<schema::wire::Gateway>().connectRequest();
  request.initHello().setMajor(major);
  request.getHello().setToken({reinterpret_cast<const kj::byte*>(token.data()), token.size()});
  // A session that is used before the answer is here is refused as well.
  auto promise = request.send();
  auto ping = promise.getSession().pingRequest().send();
  error seen{errc::ok, ""};
  const auto failure = kj::runCatchingExceptions([&] { promise.wait(raw.getWaitScope()); });
  KJ_IF_MAYBE (e, failure) {
    seen = schema::from_exception(*e);
    CHECK(kj::runCatchingExceptions([&] { ping.wait(raw.getWaitScope()); }) != nullptr);
  }
  return seen;
}

}  // namespace

TEST_CASE("the right token opens a session") {
  running_gateway gateway(with_token());
  client::options how;
  how.token = secret;
  auto cluster = gateway.connect(how);
  CHECK(cluster.welcome().protocol_major == 1);
  CHECK(cluster.welcome().software == "weft");
  CHECK(cluster.ping().value() > std::chrono::nanoseconds(0));
}

TEST_CASE("every wrong token gets the same words, and none of them the secret") {
  running_gateway gateway(with_token());
  for (const std::string& token : {std::string(), std::string("wrong"), secret + "x", secret.substr(1)}) {
    const auto e = hello(gateway, 1, token);
    CHECK(e.code == errc::invalid_argument);
    CHECK(e.context == "the cluster does not know this token; use the one its cluster file names");
  }
  const auto refused = client::connect(gateway.server->address());
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::invalid_argument);
}

TEST_CASE("an unknown major version is refused before the token is looked at") {
  running_gateway gateway(with_token());
  const auto e = hello(gateway, 2, secret);
  CHECK(e.code == errc::unsupported);
  CHECK(
      e.context ==
      "this cluster speaks protocol 1.0, the client 2.0; use a client of the version of the cluster (weft)");
  CHECK(hello(gateway, 2, "wrong").code == errc::unsupported);
  CHECK(hello(gateway, 1, secret).code == errc::ok);
}

TEST_CASE("tokens are equal or they are not") {
  using launcher::gateway::same_token;
  CHECK(same_token("abc", "abc"));
  CHECK(same_token("", ""));
  CHECK(!same_token("abc", "abd"));
  CHECK(!same_token("abc", "Abc"));
  CHECK(!same_token("abc", "ab"));
  CHECK(!same_token("abc", ""));
}

TEST_CASE("only addresses of this machine need no token") {
  using launcher::gateway::is_loopback;
  CHECK(is_loopback("127.0.0.1"));
  CHECK(is_loopback("127.9.9.9"));
  CHECK(is_loopback("localhost"));
  CHECK(is_loopback("::1"));
  CHECK(!is_loopback("0.0.0.0"));
  CHECK(!is_loopback("127.evil.example"));
  CHECK(!is_loopback("127.0.0.1.evil.example"));
  CHECK(!is_loopback("10.0.0.1"));

  server_options open_to_all;
  open_to_all.host = "0.0.0.0";
  const auto refused = launcher::gateway::server::start(
      open_to_all, std::make_shared<launcher::gateway::testing::scripted_backend>());
  REQUIRE(!refused);
  CHECK(refused.error().code == errc::invalid_argument);
}
