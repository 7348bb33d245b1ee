#include <weft/actors/errors.hpp>
#include <weft/actors/pool.hpp>

#include <caf/send.hpp>

#include "pool_state.hpp"

namespace weft::actors {

namespace {

constexpr auto tick_interval = std::chrono::milliseconds{10};
constexpr auto ask_around_timeout = std::chrono::milliseconds{1000};

template <class Jobs>
std::vector<std::uint64_t> numbers_of(const Jobs& jobs) {
  std::vector<std::uint64_t> numbers;
  for (const auto& [number, job] : jobs)
    numbers.push_back(number);
  return numbers;
}

void adopt(pool_pointer self, const cluster_ptr& now) {
  auto& state = self->state;
  const auto before = std::exchange(state.now, now);
  if (state.shards.epoch() != now->view.epoch) state.shards = machines::shard_map{now->view};
  if (!before) return;
  for (const auto& gone : machines::difference(before->view, now->view).gone) {
    for (const auto job : numbers_of(state.reads))
      on_node_down_read(self, job, gone);
    for (const auto job : numbers_of(state.writes))
      on_node_down_write(self, job, gone);
  }
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

caf::error not_joined() {
  return to_caf({errc::unreachable, "this node has not joined its cluster yet; try again shortly"});
}

pool_actor::behavior_type behave(pool_pointer self, pool_parts parts) {
  self->state.parts = std::move(parts);
  return {
      [self](read_atom, const read_order& order) -> caf::result<read_outcome> {
        if (!self->state.now) return not_joined();
        auto promise = self->make_response_promise<read_outcome>();
        start_read(self, order, promise);
        return promise;
      },
      [self](write_atom, const write_order& order) -> caf::result<write_outcome> {
        if (!self->state.now) return not_joined();
        auto promise = self->make_response_promise<write_outcome>();
        start_write(self, order, promise);
        return promise;
      },
      [self](locate_atom, const key_list& wanted) -> caf::result<locate_reply> {
        if (!self->state.now) return not_joined();
        auto promise = self->make_response_promise<locate_reply>();
        locate(self, wanted.keys, ask_around_timeout, [promise](std::vector<located_key> found) mutable {
          promise.deliver(locate_reply{std::move(found)});
        });
        return promise;
      },
      [self](drop_atom, const key_list& gone) -> caf::result<std::uint64_t> {
        if (!self->state.now) return not_joined();
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
      [self](list_atom) -> caf::result<key_list> {
        if (!self->state.now) return not_joined();
        return collect_keys(self, &role_handles::directory, list_atom_v);
      },
      [self](status_atom) -> caf::result<pool_report> {
        auto report = self->state.counters;
        report.staging_used_bytes = self->state.parts.room->used_bytes();
        return report;
      },
      [self](cluster_atom, const cluster_ptr& now) { adopt(self, now); },
      [self](tick_atom) {
        auto& state = self->state;
        state.ticking = false;
        for (const auto job : numbers_of(state.reads))
          tick_read(self, job);
        for (const auto job : numbers_of(state.writes))
          tick_write(self, job);
        keep_ticking(self);
      },
  };
}

}  // namespace

void keep_ticking(pool_pointer self) {
  auto& state = self->state;
  if (state.ticking || (state.reads.empty() && state.writes.empty())) return;
  state.ticking = true;
  self->delayed_send(self, tick_interval, tick_atom_v);
}

void locate(pool_pointer self, const std::vector<id128>& keys, duration timeout,
            std::function<void(std::vector<located_key>)> done) {
  auto& state = self->state;
  auto answers =
      std::make_shared<std::vector<located_key>>(keys.size(), located_key{.holders = {}, .maybe = true});
  if (state.shards.empty() || keys.empty()) return done(std::move(*answers));
  const auto parts = state.shards.split(keys);
  const auto finish = [answers, open = std::make_shared<std::size_t>(parts.size()), done = std::move(done)] {
    if (--*open == 0) done(std::move(*answers));
  };
  for (std::size_t shard = 0; shard < parts.size(); ++shard) {
    const auto* to = state.now->handles_of(state.shards.nodes()[shard].node);
    if (parts[shard].empty() || !to || !to->directory) {
      finish();
      continue;
    }
    key_list wanted;
    for (const auto index : parts[shard])
      wanted.keys.push_back(keys[index]);
    self->request(to->directory, timeout, locate_atom_v, std::move(wanted))
        .then(
            [answers, finish, part = parts[shard]](const locate_reply& reply) {
              for (std::size_t i = 0; i < part.size() && i < reply.keys.size(); ++i)
                (*answers)[part[i]] = reply.keys[i];
              finish();
            },
            [finish](const caf::error&) { finish(); });
  }
}

pool_actor spawn_pool(caf::actor_system& system, pool_parts parts) {
  return system.spawn(behave, std::move(parts));
}

}  // namespace weft::actors
