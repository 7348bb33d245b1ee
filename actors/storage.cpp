#include <weft/actors/block_store.hpp>
#include <weft/actors/control.hpp>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "posted_work.hpp"

#include <utility>

namespace weft::actors {

namespace {

using storage_port = local_storage_actor::extend<caf::reacts_to<post_atom, posted_work>>;

constexpr auto tick_interval = std::chrono::milliseconds{200};

struct storage_state {
  static inline const char* name = "storage";

  std::shared_ptr<block_store> store;
};

using self_pointer = storage_port::stateful_pointer<storage_state>;

// The answer to a request, out of what `ask` is told at once or later.
template <class Answer, class Ask>
caf::result<Answer> answer_later(self_pointer self, Ask ask) {
  auto promise = self->make_response_promise<Answer>();
  ask(*self->state.store, poster<storage_port>(self).deliverer(promise));
  return promise;
}

storage_port::behavior_type behave(self_pointer self, std::shared_ptr<block_store> store) {
  self->state.store = std::move(store);
  self->delayed_send(self, tick_interval, tick_atom_v);
  return {
      [self](offer_atom, const offer& what) {
        return answer_later<offer_reply>(self,
                                         [&](auto& here, auto done) { here.take(what, std::move(done)); });
      },
      [self](lease_atom, const lease_request& wanted) {
        return answer_later<lease_reply>(self,
                                         [&](auto& here, auto done) { here.lease(wanted, std::move(done)); });
      },
      [self](release_atom, std::uint64_t lease) { self->state.store->release(lease); },
      [self](drop_atom, const key_list& gone) {
        return answer_later<std::uint64_t>(
            self, [&](auto& here, auto done) { here.drop(gone.keys, std::move(done)); });
      },
      [self](pin_atom, bool pinned, const key_list& which) {
        return answer_later<std::uint64_t>(
            self, [&](auto& here, auto done) { here.pin(pinned, which.keys, std::move(done)); });
      },
      [self](pin_atom, const key_list& which) {
        return answer_later<key_list>(
            self, [&](auto& here, auto done) { here.pinned(which.keys, std::move(done)); });
      },
      [self](size_atom, const key_list& which) {
        return answer_later<held_sizes>(
            self, [&](auto& here, auto done) { here.sizes(which.keys, std::move(done)); });
      },
      [self](list_atom, std::uint64_t cursor, std::size_t limit) {
        return answer_later<held_page>(
            self, [&](auto& here, auto done) { here.list_held(cursor, limit, std::move(done)); });
      },
      [self](prove_atom, const key_list& which) {
        return answer_later<key_list>(
            self, [&](auto& here, auto done) { here.prove(which.keys, std::move(done)); });
      },
      [self](status_atom) {
        return answer_later<storage_report>(self,
                                            [](auto& here, auto done) { here.report(std::move(done)); });
      },
      [self](cluster_atom, const cluster_ptr& now) { self->state.store->adopt(now); },
      [self](tick_atom) {
        self->state.store->tick();
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
      [](post_atom, const posted_work& work) { (*work.run)(); },
  };
}

}  // namespace

local_storage_actor spawn_storage(caf::actor_system& system, const std::shared_ptr<block_store>& store) {
  storage_port made = system.spawn(behave, store);
  store->work_on(poster<storage_port>(made));
  return made;
}

}  // namespace weft::actors
