#include "pumps.hpp"

#include <weft/schema/rpc_convert.hpp>

#include <algorithm>
#include <cstddef>
#include <utility>

namespace weft::launcher::gateway {

kj::Promise<void> wake_up::wait() {
  if (std::exchange(signalled_, false)) return kj::READY_NOW;
  auto both = kj::newPromiseAndFulfiller<void>();
  waiting_ = kj::mv(both.fulfiller);
  return kj::mv(both.promise);
}

void wake_up::signal() {
  KJ_IF_MAYBE (fulfiller, waiting_) {
    (*fulfiller)->fulfill();
    waiting_ = nullptr;
  } else {
    signalled_ = true;
  }
}

void token_pump::push(schema::token_piece piece) {
  waiting_.push_back(std::move(piece));
  wake_.signal();
}

void token_pump::close() {
  closed_ = true;
  wake_.signal();
}

kj::Promise<void> token_pump::run() {
  if (!waiting_.empty()) return send_waiting().then([this] { return run(); });
  if (closed_) return sink_.endRequest().send().ignoreResult();
  return wake_.wait().then([this] { return run(); });
}

kj::Promise<void> token_pump::send_waiting() {
  // A slow client lets many gather; one message must stay far below the limit of its size.
  constexpr std::size_t tokens_max = 4096;
  const auto count = std::min(waiting_.size(), tokens_max);
  auto request = sink_.tokensRequest();
  auto pieces = request.initPieces(static_cast<unsigned>(count));
  for (auto piece : pieces) {
    write(waiting_.front(), piece);
    waiting_.pop_front();
  }
  return request.send();
}

void progress_pump::push(std::uint64_t done, std::uint64_t total) {
  done_ = done;
  total_ = total;
  wake_.signal();
}

kj::Promise<void> progress_pump::run() {
  return wake_.wait().then([this] {
    auto request = sink_.updateRequest();
    request.setDone(done_);
    request.setTotal(total_);
    return request.send().then([this] { return run(); },
                               [](kj::Exception&&) -> kj::Promise<void> { return kj::NEVER_DONE; });
  });
}

}  // namespace weft::launcher::gateway
