#include "sinks.hpp"

#include <weft/schema/rpc_convert.hpp>
#include <weft/schema/rpc_error.hpp>

namespace weft::client {
namespace {

using fulfiller = kj::Own<kj::PromiseFulfiller<void>>;

[[noreturn]] void call_has_ended() {
  kj::throwFatalException(schema::to_exception({errc::cancelled, "the call has ended"}));
}

// Runs `step` on the caller's thread; the promise resolves when it has returned. The fulfiller stays on the
// event thread: what crosses over is a weak pointer to it.
kj::Promise<void> on_caller(const mailbox& tasks, conversation& talk, std::function<void()> step) {
  auto both = kj::newPromiseAndFulfiller<void>();
  auto taken = std::make_shared<fulfiller>(kj::mv(both.fulfiller));
  const bool posted = talk.post([tasks, weak = std::weak_ptr(taken), step = std::move(step)] {
    step();
    tasks->post([weak] {
      if (const auto alive = weak.lock()) (*alive)->fulfill();
    });
  });
  if (!posted) call_has_ended();
  return both.promise.attach(std::move(taken));
}

}  // namespace

kj::Promise<void> token_sink::tokens(TokensContext context) {
  auto pieces = schema::read_list<token_piece>(context.getParams().getPieces());
  return on_caller(tasks_, *talk_, [on_token = on_token_, pieces = std::move(pieces)] {
    for (const auto& piece : pieces)
      on_token(piece);
  });
}

kj::Promise<void> token_sink::end(EndContext) {
  return kj::READY_NOW;
}

kj::Promise<void> progress_sink::update(UpdateContext context) {
  const auto params = context.getParams();
  return on_caller(tasks_, *talk_,
                   [on_progress = on_progress_, done = params.getDone(), total = params.getTotal()] {
                     on_progress(done, total);
                   });
}

kj::Promise<void> block_sink::write(WriteContext context) {
  const auto chunk = context.getParams().getChunk();
  if (chunk.size() > schema::limits::block_bytes - into_->bytes.size())
    kj::throwFatalException(
        schema::to_exception({errc::invalid_argument, "the block is larger than any may be"}));
  const auto bytes = std::as_bytes(std::span(chunk.begin(), chunk.size()));
  into_->bytes.insert(into_->bytes.end(), bytes.begin(), bytes.end());
  into_->sum.add(bytes);
  return kj::READY_NOW;
}

kj::Promise<void> block_sink::end(EndContext) {
  return kj::READY_NOW;
}

}  // namespace weft::client
