#include <weft/actors/cluster.hpp>
#include <weft/actors/control.hpp>
#include <weft/actors/errors.hpp>
#include <weft/machines/directory.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>

#include <utility>

namespace weft::actors {

namespace {

constexpr std::size_t sweep_entries = 100'000;
constexpr std::size_t documents_per_reply = max_keys_per_message;

struct directory_state {
  static inline const char* name = "directory";

  clock_source clock;
  machines::directory shard;
  cluster_ptr now;
  bool sweeping = false;
};

using self_pointer = directory_actor::stateful_pointer<directory_state>;

locate_reply by_key(const machines::located& found, std::size_t keys) {
  locate_reply reply;
  reply.keys.resize(keys);
  for (std::size_t i = 0; i < keys; ++i) {
    for (const auto holder : found.holders_of(i))
      reply.keys[i].holders.push_back(found.nodes[holder]);
    reply.keys[i].maybe = reply.keys[i].holders.empty() && !found.complete;
  }
  return reply;
}

// Others' keys move in, the dead move out; who holds what is said anew by the holders.
void adopt(self_pointer self, const cluster_ptr& now, const node_config& config) {
  auto& state = self->state;
  const auto before = state.now ? state.now->view : machines::view{};
  state.now = now;
  if (now->view.epoch == before.epoch) return;
  for (const auto& gone : machines::difference(before, now->view).gone)
    state.shard.drop(gone);
  for (const auto& member : now->view.members)
    state.shard.readmit(member.ref);
  state.shard.drop_foreign(machines::shard_map{now->view}, now->self);
  state.shard.begin_rebuild(now->view.epoch,
                            machines::with_role(now->view, static_cast<unsigned>(role::storage)),
                            state.clock() + config.liveness_timeout);
  if (!std::exchange(state.sweeping, true)) self->send(self, tick_atom_v);
}

directory_actor::behavior_type behave(self_pointer self, const node_config& config, clock_source clock) {
  self->state.clock = std::move(clock);
  return {
      [self](announce_atom, const announcement& a) -> caf::result<std::uint64_t> {
        auto& shard = self->state.shard;
        if (const auto done = shard.announce(a.holder, a.keys, a.sequence); !done)
          return to_caf(done.error());
        if (a.complete_epoch != 0) shard.announced_all(a.holder, a.complete_epoch);
        return std::uint64_t{a.keys.size()};
      },
      [self](withdraw_atom, const withdrawal& w) {
        self->state.shard.withdraw(w.holder, w.keys, w.sequence);
      },
      [self](locate_atom, const key_list& wanted) -> caf::result<locate_reply> {
        const auto& state = self->state;
        return by_key(state.shard.locate(wanted.keys, state.clock()), wanted.keys.size());
      },
      [self](list_atom) -> caf::result<key_list> {
        return key_list{self->state.shard.documents(id128{}, documents_per_reply)};
      },
      [self, config](cluster_atom, const cluster_ptr& now) { adopt(self, now, config); },
      [self](tick_atom) {
        auto& state = self->state;
        state.sweeping = state.shard.sweep(sweep_entries);
        if (state.sweeping) self->send(self, tick_atom_v);
      },
  };
}

}  // namespace

directory_actor spawn_directory(caf::actor_system& system, const node_config& config, clock_source clock) {
  return system.spawn(behave, config, std::move(clock));
}

}  // namespace weft::actors
