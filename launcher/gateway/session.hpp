// What one connection offers: the bootstrap capability, and behind it the session. On the event thread.
#pragma once

#include <weft/schema/weft.capnp.h>

#include "service.hpp"

#include <memory>

namespace weft::launcher::gateway {

// Version and token, then a session.
class bootstrap final : public schema::wire::Gateway::Server {
 public:
  bootstrap(service& s, std::shared_ptr<connection_state> connection)
      : service_(s), connection_(std::move(connection)) {}

  kj::Promise<void> connect(ConnectContext context) override;

 private:
  service& service_;
  std::shared_ptr<connection_state> connection_;
};

class session final : public schema::wire::Session::Server {
 public:
  session(service& s, std::shared_ptr<connection_state> connection)
      : service_(s), connection_(std::move(connection)) {}

  kj::Promise<void> ping(PingContext context) override;
  kj::Promise<void> ingest(IngestContext context) override;
  kj::Promise<void> documents(DocumentsContext context) override;
  kj::Promise<void> drop(DropContext context) override;
  kj::Promise<void> pin(PinContext context) override;
  kj::Promise<void> unpin(UnpinContext context) override;
  kj::Promise<void> generate(GenerateContext context) override;
  kj::Promise<void> lookup(LookupContext context) override;
  kj::Promise<void> put(PutContext context) override;
  kj::Promise<void> get(GetContext context) override;
  kj::Promise<void> status(StatusContext context) override;

 private:
  // A call that names one document and answers nothing.
  template <class Context>
  kj::Promise<void> on_document(Context context,
                                void (backend::*method)(id128, call_context, completion<void>));

  service& service_;
  std::shared_ptr<connection_state> connection_;
};

}  // namespace weft::launcher::gateway
