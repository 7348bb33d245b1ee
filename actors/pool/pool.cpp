#include <weft/actors/errors.hpp>
#include <weft/actors/pool.hpp>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include "../posted_work.hpp"

#include <algorithm>

namespace weft::actors {

namespace {

using pool_port = pool_actor::extend<caf::reacts_to<post_atom, posted_work>,
                                     // Something has begun that needs the clock.
                                     caf::reacts_to<step_atom>>;

constexpr auto tick_interval = std::chrono::milliseconds{10};
constexpr auto ask_around_timeout = std::chrono::milliseconds{1000};

struct pool_state {
  static inline const char* name = "pool";

  std::shared_ptr<block_pool> pool;
  cluster_ptr now;
};

using pool_pointer = pool_port::stateful_pointer<pool_state>;

caf::error not_joined() {
  return to_caf({errc::unreachable, "this node has not joined its cluster yet; try again shortly"});
}

// Collects answers of several nodes; the last one ends it.
template <class Sum>
struct collection {
  std::size_t open = 0;
  Sum sum{};
  caf::typed_response_promise<Sum> promise;

  void close_one() {
    if (--open == 0) promise.deliver(std::move(sum));
  }
};

// Asks every storage node the same and adds up the answers; who does not answer counts as nothing.
template <class... Ts>
caf::result<std::uint64_t> ask_all_storages(pool_pointer self, Ts... message) {
  auto all = std::make_shared<collection<std::uint64_t>>();
  all->promise = self->make_response_promise<std::uint64_t>();
  all->open = 1;
  for (const auto& [node, handles] : self->state.now->handles) {
    if (!handles.storage) continue;
    ++all->open;
    self->request(handles.storage, ask_around_timeout, message...)
        .then(
            [all](std::uint64_t count) {
              all->sum += count;
              all->close_one();
            },
            [all](const caf::error&) { all->close_one(); });
  }
  auto promise = all->promise;
  all->close_one();
  return promise;
}

// Asks every actor of one kind for keys and puts the answers together; who does not answer counts as none.
template <class Handle, class... Ts>
caf::result<key_list> collect_keys(pool_pointer self, Handle role_handles::*role, Ts... message) {
  auto all = std::make_shared<collection<key_list>>();
  all->promise = self->make_response_promise<key_list>();
  all->open = 1;
  for (const auto& [node, handles] : self->state.now->handles) {
    if (!(handles.*role)) continue;
    ++all->open;
    self->request(handles.*role, ask_around_timeout, message...)
        .then(
            [all](const key_list& part) {
              all->sum.keys.insert(all->sum.keys.end(), part.keys.begin(), part.keys.end());
              all->close_one();
            },
            [all](const caf::error&) { all->close_one(); });
  }
  auto promise = all->promise;
  all->close_one();
  return promise;
}

// Asks every storage node; a holder that does not answer counts as none.
caf::result<held_sizes> collect_sizes(pool_pointer self, const key_list& keys) {
  auto all = std::make_shared<collection<held_sizes>>();
  all->sum.bytes.assign(keys.keys.size(), 0);
  all->promise = self->make_response_promise<held_sizes>();
  all->open = 1;
  for (const auto& [node, handles] : self->state.now->handles) {
    if (!handles.storage) continue;
    for (std::size_t first = 0; first < keys.keys.size(); first += max_keys_per_message) {
      const auto last = std::min(first + max_keys_per_message, keys.keys.size());
      key_list part;
      part.keys.assign(keys.keys.begin() + static_cast<std::ptrdiff_t>(first),
                       keys.keys.begin() + static_cast<std::ptrdiff_t>(last));
      ++all->open;
      self->request(handles.storage, ask_around_timeout, size_atom_v, std::move(part))
          .then(
              [all, first](const held_sizes& sizes) {
                for (std::size_t i = 0; i < sizes.bytes.size() && first + i < all->sum.bytes.size(); ++i)
                  all->sum.bytes[first + i] = std::max(all->sum.bytes[first + i], sizes.bytes[i]);
                all->close_one();
              },
              [all](const caf::error&) { all->close_one(); });
    }
  }
  auto promise = all->promise;
  all->close_one();
  return promise;
}

template <class Answer>
auto answer_to(pool_pointer self, caf::typed_response_promise<Answer> promise) {
  return poster<pool_port>(self).deliverer(promise);
}

pool_port::behavior_type behave(pool_pointer self, std::shared_ptr<block_pool> pool) {
  self->state.pool = std::move(pool);
  return {
      [self](read_atom, const read_order& order) -> caf::result<read_outcome> {
        auto promise = self->make_response_promise<read_outcome>();
        self->state.pool->read(order, answer_to(self, promise));
        return promise;
      },
      [self](write_atom, const write_order& order) -> caf::result<write_outcome> {
        auto promise = self->make_response_promise<write_outcome>();
        self->state.pool->write(order, answer_to(self, promise));
        return promise;
      },
      [self](locate_atom, const key_list& wanted) -> caf::result<locate_reply> {
        auto promise = self->make_response_promise<locate_reply>();
        self->state.pool->locate(wanted.keys, ask_around_timeout, answer_to(self, promise));
        return promise;
      },
      [self](drop_atom, const key_list& gone) -> caf::result<std::uint64_t> {
        if (!self->state.now) return not_joined();
        self->state.pool->forget(gone.keys);
        return ask_all_storages(self, drop_atom_v, gone);
      },
      [self](pin_atom, bool pinned, const key_list& which) -> caf::result<std::uint64_t> {
        if (!self->state.now) return not_joined();
        return ask_all_storages(self, pin_atom_v, pinned, which);
      },
      [self](pin_atom, const key_list& which) -> caf::result<key_list> {
        if (!self->state.now) return not_joined();
        return collect_keys(self, &role_handles::storage, pin_atom_v, which);
      },
      [self](size_atom, const key_list& which) -> caf::result<held_sizes> {
        if (!self->state.now) return not_joined();
        return collect_sizes(self, which);
      },
      [self](list_atom) -> caf::result<key_list> {
        if (!self->state.now) return not_joined();
        return collect_keys(self, &role_handles::directory, list_atom_v);
      },
      [self](status_atom) -> caf::result<pool_report> {
        auto promise = self->make_response_promise<pool_report>();
        self->state.pool->report(answer_to(self, promise));
        return promise;
      },
      [self](cluster_atom, const cluster_ptr& now) {
        self->state.now = now;
        self->state.pool->adopt(now);
      },
      [self](tick_atom) { self->state.pool->tick(); },
      [](post_atom, const posted_work& work) { (*work.run)(); },
      [self](step_atom) { self->delayed_send(self, tick_interval, tick_atom_v); },
  };
}

}  // namespace

pool_actor spawn_pool(caf::actor_system& system, const std::shared_ptr<block_pool>& pool) {
  pool_port made = system.spawn(behave, pool);
  pool->call_for_ticks([me = caf::actor_cast<caf::weak_actor_ptr>(made)] {
    if (auto alive = caf::actor_cast<pool_port>(me.lock())) caf::anon_send(alive, step_atom_v);
  });
  return made;
}

}  // namespace weft::actors
