// What a backend reports while a call runs, on its way to the client: as fast as the client takes it, what
// gathers meanwhile goes as one message. All of it on the event thread.
#pragma once

#include <weft/schema/rpc_types.hpp>
#include <weft/schema/weft.capnp.h>

#include <kj/async.h>

#include <cstdint>
#include <deque>

namespace weft::launcher::gateway {

// Lets one loop of promises sleep until there is something to do.
class wake_up {
 public:
  kj::Promise<void> wait();
  void signal();

 private:
  bool signalled_ = false;
  kj::Maybe<kj::Own<kj::PromiseFulfiller<void>>> waiting_;
};

class token_pump {
 public:
  explicit token_pump(schema::wire::TokenSink::Client sink) : sink_(kj::mv(sink)) {}

  void push(schema::token_piece piece);
  void close();  // nothing more comes

  // Resolves when the client has taken all tokens of a closed pump; fails when it does not take them.
  kj::Promise<void> run();

 private:
  kj::Promise<void> send_waiting();

  schema::wire::TokenSink::Client sink_;
  std::deque<schema::token_piece> waiting_;
  bool closed_ = false;
  wake_up wake_;
};

class progress_pump {
 public:
  explicit progress_pump(schema::wire::ProgressSink::Client sink) : sink_(kj::mv(sink)) {}

  void push(std::uint64_t done, std::uint64_t total);

  // Never resolves; failures of the client's end are its own affair.
  kj::Promise<void> run();

 private:
  schema::wire::ProgressSink::Client sink_;
  std::uint64_t done_ = 0;
  std::uint64_t total_ = 0;
  wake_up wake_;
};

}  // namespace weft::launcher::gateway
