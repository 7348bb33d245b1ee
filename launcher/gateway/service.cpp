#include "service.hpp"

#include <weft/schema/rpc_error.hpp>

#include <algorithm>

namespace weft::launcher::gateway {

void throw_error(const error& e) {
  kj::throwFatalException(schema::to_exception(e));
}

void throw_if_refused(const result<void>& r) {
  if (!r) throw_error(r.error());
}

call_slot::call_slot(const service& s, std::shared_ptr<connection_state> connection)
    : connection_(std::move(connection)) {
  if (connection_->calls >= s.options.calls_max) {
    connection_.reset();
    throw_error({errc::overloaded, std::to_string(s.options.calls_max) +
                                       " calls of this connection are running; wait for one to end"});
  }
  ++connection_->calls;
}

call_slot::~call_slot() {
  if (connection_) --connection_->calls;
}

std::chrono::milliseconds deadline_of(const service& s, std::uint64_t client_ms) {
  if (client_ms == 0) return s.options.deadline_default;
  const auto most = static_cast<std::uint64_t>(s.options.deadline_max.count());
  return std::chrono::milliseconds(std::min(client_ms, most));
}

kj::Promise<void> within(service& s, std::chrono::milliseconds deadline, kj::Promise<void> promise) {
  auto late = s.timer.afterDelay(deadline.count() * kj::MILLISECONDS).then([deadline] {
    throw_error({errc::deadline_exceeded, "not done within " + std::to_string(deadline.count()) +
                                              " ms; try again or give it a longer deadline"});
  });
  return promise.exclusiveJoin(kj::mv(late));
}

}  // namespace weft::launcher::gateway
