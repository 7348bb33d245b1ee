// Completions that a backend calls on its own threads, as promises of the event thread.
#pragma once

#include <weft/launcher/gateway/backend.hpp>
#include <weft/schema/event_thread.hpp>
#include <weft/schema/rpc_error.hpp>

#include <kj/async.h>

#include <atomic>
#include <memory>
#include <type_traits>
#include <utility>

namespace weft::launcher::gateway {

using mailbox = std::shared_ptr<schema::event_thread::mailbox>;

// Calls `with(object)` on the event thread if the object still lives then. Objects named by a weak pointer
// are made, used and destroyed on the event thread only; the pointer itself may be held anywhere.
template <class Object, class With>
void post_to(const mailbox& tasks, std::weak_ptr<Object> object, With with) {
  tasks->post([object = std::move(object), with = std::move(with)]() mutable {
    if (const auto alive = object.lock()) with(*alive);
  });
}

// Where the answer of one call arrives. Its promise owns it.
template <class T>
struct answer_slot {
  kj::Own<kj::PromiseFulfiller<T>> fulfiller;

  void answer(result<T>&& with) {
    if (!with)
      fulfiller->reject(schema::to_exception(with.error()));
    else if constexpr (std::is_void_v<T>)
      fulfiller->fulfill();
    else
      fulfiller->fulfill(std::move(*with));
  }
};

// Held by all copies of one completion: the first answer counts, the last copy answers when none did.
template <class T>
class answer_sender {
 public:
  answer_sender(mailbox tasks, std::weak_ptr<answer_slot<T>> slot)
      : tasks_(std::move(tasks)), slot_(std::move(slot)) {}
  ~answer_sender() { send(fail(errc::internal, "the gateway gave up on the request; try again")); }
  answer_sender(const answer_sender&) = delete;
  answer_sender& operator=(const answer_sender&) = delete;

  void send(result<T> answer) {
    if (sent_.exchange(true)) return;
    post_to(tasks_, slot_,
            [answer = std::move(answer)](answer_slot<T>& slot) mutable { slot.answer(std::move(answer)); });
  }

 private:
  mailbox tasks_;
  std::weak_ptr<answer_slot<T>> slot_;
  std::atomic<bool> sent_{false};
};

template <class T>
struct pending_answer {
  kj::Promise<T> promise;  // errors are exceptions
  completion<T> done;
};

// On the event thread.
template <class T>
pending_answer<T> make_pending(const mailbox& tasks) {
  auto both = kj::newPromiseAndFulfiller<T>();
  auto slot = std::make_shared<answer_slot<T>>(answer_slot<T>{kj::mv(both.fulfiller)});
  auto sender = std::make_shared<answer_sender<T>>(tasks, slot);
  return {both.promise.attach(std::move(slot)),
          [sender = std::move(sender)](result<T> answer) { sender->send(std::move(answer)); }};
}

}  // namespace weft::launcher::gateway
