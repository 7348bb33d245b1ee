// A connection as the event thread sees it.
#pragma once

#include <weft/client/client.hpp>
#include <weft/schema/event_thread.hpp>
#include <weft/schema/weft.capnp.h>

#include <capnp/rpc-twoparty.h>
#include <kj/async-io.h>

#include <string>

namespace weft::client {

class link {
 public:
  explicit link(kj::Own<kj::AsyncIoStream> stream);

 private:
  friend kj::Promise<kj::Own<link>> open_link(kj::AsyncIoContext& io, std::string address,
                                              const options& how);

  kj::Own<kj::AsyncIoStream> stream_;
  capnp::TwoPartyVatNetwork network_;
  capnp::RpcSystem<capnp::rpc::twoparty::VatId> rpc_;

  kj::Promise<void> greet(const options& how);

 public:
  // Behind the connection, so that it goes first.
  schema::wire::Session::Client session;
  client::welcome welcome;
};

// Connects and exchanges versions. Fails with exceptions that `rpc_error` understands.
kj::Promise<kj::Own<link>> open_link(kj::AsyncIoContext& io, std::string address, const options& how);

}  // namespace weft::client
