// What every connection of one server shares, and the way of one request through it. On the event thread.
#pragma once

#include <weft/launcher/gateway/server.hpp>

#include <capnp/common.h>
#include <kj/async.h>
#include <kj/timer.h>

#include "pending.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <type_traits>
#include <utility>

namespace weft::launcher::gateway {

struct service {
  server_options options;
  std::shared_ptr<gateway::backend> backend;
  mailbox tasks;
  kj::Timer& timer;
  std::size_t upload_bytes = 0;  // announced by uploads that are not done
};

// One client. Lives as long as its connection or a call of it.
struct connection_state {
  std::string peer;  // for logs
  bool welcome = false;
  std::size_t calls = 0;
};

[[noreturn]] void throw_error(const error& e);

void throw_if_refused(const result<void>& r);

// Makes the promise of a server method end when the client drops the call or goes away. From 1.0 on Cap'n
// Proto wants this as an annotation of the schema instead.
template <class CallContext>
void allow_cancellation(CallContext& context) {
#if CAPNP_VERSION < 1000000
  context.allowCancellation();
#else
  static_cast<void>(context);
#endif
}

// Counts a call of a connection while it lives. Throws `overloaded` where there are too many.
class call_slot {
 public:
  call_slot(const service& s, std::shared_ptr<connection_state> connection);
  ~call_slot();
  call_slot(call_slot&&) noexcept = default;
  call_slot& operator=(call_slot&&) = delete;

 private:
  std::shared_ptr<connection_state> connection_;
};

// Tells the backend to stop unless the call came to its end.
class stop_unless_answered {
 public:
  stop_unless_answered() = default;
  ~stop_unless_answered() {
    if (!answered) source.request_stop();
  }
  stop_unless_answered(const stop_unless_answered&) = delete;
  stop_unless_answered& operator=(const stop_unless_answered&) = delete;

  std::stop_source source;
  bool answered = false;
};

// How long a call may take: what the client says within what the server allows.
std::chrono::milliseconds deadline_of(const service& s, std::uint64_t client_ms);

// `promise`, or `deadline_exceeded`. What loses is cancelled.
kj::Promise<void> within(service& s, std::chrono::milliseconds deadline, kj::Promise<void> promise);

// Starts a call of the backend: `start(call_context, completion<T>)`. Errors become exceptions. A promise
// that is dropped tells the backend to stop.
template <class T, class Start>
kj::Promise<T> ask_backend(service& s, std::chrono::milliseconds deadline, Start start) {
  auto pending = make_pending<T>(s.tasks);
  auto guard = std::make_unique<stop_unless_answered>();
  auto& g = *guard;
  start(call_context{g.source.get_token(), std::chrono::steady_clock::now() + deadline},
        std::move(pending.done));
  if constexpr (std::is_void_v<T>)
    return pending.promise.then([&g] { g.answered = true; }).attach(std::move(guard));
  else
    return pending.promise
        .then([&g](T&& answer) {
          g.answered = true;
          return std::move(answer);
        })
        .attach(std::move(guard));
}

}  // namespace weft::launcher::gateway
