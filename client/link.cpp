#include "link.hpp"

#include <weft/schema/rpc_convert.hpp>
#include <weft/schema/rpc_error.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>

namespace weft::client {

namespace wire = schema::wire;

namespace {

// A gateway that vanished without a word is noticed within a minute.
void keep_alive(kj::AsyncIoStream& stream, const std::string& address) {
  if (address.starts_with("unix:")) return;
  const auto set = [&](int level, int option, int value) {
    stream.setsockopt(level, option, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 30);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 10);
  set(IPPROTO_TCP, TCP_KEEPCNT, 3);
}

// What the system said, without KJ's own words around it: "connect(...): Connection refused; x = 1".
std::string system_reason(const kj::Exception& e) {
  std::string text = e.getDescription().cStr();
  text.resize(std::min(text.find_first_of(";\n"), text.size()));
  const auto colon = text.rfind(": ");
  return colon == std::string::npos ? text : text.substr(colon + 2);
}

kj::Promise<kj::Own<kj::AsyncIoStream>> dial(kj::AsyncIoContext& io, const std::string& address) {
  auto failed = [address](kj::Exception&& e) -> kj::Own<kj::AsyncIoStream> {
    kj::throwFatalException(schema::to_exception(
        {errc::unreachable, "no cluster answers at " + address + " (" + system_reason(e) +
                                "); start one or give the address of one that runs"}));
  };
  return io.provider->getNetwork()
      .parseAddress(address)
      .then([](kj::Own<kj::NetworkAddress>&& parsed) {
        auto connected = parsed->connect();
        return connected.attach(kj::mv(parsed));
      })
      .catch_(kj::mv(failed));
}

}  // namespace

link::link(kj::Own<kj::AsyncIoStream> stream)
    : stream_(kj::mv(stream)),
      network_(*stream_, capnp::rpc::twoparty::Side::CLIENT),
      rpc_(capnp::makeRpcClient(network_)),
      session(nullptr) {}

kj::Promise<void> link::greet(const options& how) {
  capnp::MallocMessageBuilder server;
  server.initRoot<capnp::rpc::twoparty::VatId>().setSide(capnp::rpc::twoparty::Side::SERVER);
  auto gateway = rpc_.bootstrap(server.getRoot<capnp::rpc::twoparty::VatId>()).castAs<wire::Gateway>();
  auto request = gateway.connectRequest();
  auto hello = request.initHello();
  hello.setMajor(wire::PROTOCOL_MAJOR);
  hello.setMinor(wire::PROTOCOL_MINOR);
  hello.setToken(schema::to_data(how.token));
  hello.setClient(how.name.c_str());
  return request.send().then([this](capnp::Response<wire::Gateway::ConnectResults>&& answer) {
    session = answer.getSession();
    const auto w = answer.getWelcome();
    welcome = {w.getMajor(), w.getMinor(), w.getSoftware().cStr()};
  });
}

kj::Promise<kj::Own<link>> open_link(kj::AsyncIoContext& io, std::string address, const options& how) {
  auto dialled = dial(io, address);
  return dialled.then([address = std::move(address), &how](kj::Own<kj::AsyncIoStream>&& stream) {
    keep_alive(*stream, address);
    auto made = kj::heap<link>(kj::mv(stream));
    auto greeted = made->greet(how);
    return greeted.then([made = kj::mv(made)]() mutable { return kj::mv(made); });
  });
}

}  // namespace weft::client
