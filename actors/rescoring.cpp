#include "rescoring.hpp"

#include <weft/actors/cluster.hpp>
#include <weft/machines/shard_map.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <spdlog/spdlog.h>

#include "manifests.hpp"

#include <algorithm>
#include <deque>
#include <set>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto tick_interval = std::chrono::milliseconds{500};
constexpr auto listing_interval = std::chrono::seconds{5};
constexpr auto write_timeout = std::chrono::seconds{10};
constexpr std::size_t manifests_at_once = 32;  // in staging
constexpr std::uint32_t manifest_replicas = 2;

struct rescoring_state {
  static inline const char* name = "rescoring";

  work_parts parts;
  local_prefill_actor prefill;
  scoring_wish scoring;
  duration read_deadline{};
  duration grace{};  // for readers of the former manifest
  std::uint32_t replicas = 1;
  cluster_ptr now;
  machines::shard_map prefill_nodes;

  std::deque<id128> waiting;  // manifest keys
  std::set<id128> settled;    // manifest keys of documents that need nothing more
  std::vector<id128> to_look_at;
  bool listing = false;
  bool working = false;
  time_point next_listing{};
  rescoring_report report;
};

using self_pointer = rescoring_actor::stateful_pointer<rescoring_state>;

// One document on its way to its bands.
struct rescored {
  id128 key;  // of both manifests
  manifest_ptr before;
  manifest_ptr after;
};
using rescored_ptr = std::shared_ptr<const rescored>;

read_order reading(const rescoring_state& state, std::vector<id128> keys) {
  return {.keys = std::move(keys), .fingerprint = {}, .timeout = state.read_deadline};
}

manifest_ptr manifest_in(const read_block& block) {
  if (!block.outcome) return nullptr;
  auto opened = open_manifest(block.bytes->bytes());
  return opened ? *opened : nullptr;
}

bool is_scored(const schema::manifest& m) {
  return m.meaning.policy != "none";
}

void settle(rescoring_state& state, const id128& key) {
  state.settled.insert(key);
  std::erase(state.waiting, key);
}

void end_work(self_pointer self) {
  self->state.working = false;
}

void give_up(self_pointer self, const id128& key, const manifest_ptr& m, const std::string& why) {
  ++self->state.report.failed;
  spdlog::warn("document `{}` stays as it is, without bands: {}", m->name, why);
  settle(self->state, key);
  end_work(self);
}

// -- which documents --

void look_at_next(self_pointer self) {
  auto& state = self->state;
  if (state.to_look_at.empty()) {
    state.listing = false;
    state.next_listing = state.parts.clock() + listing_interval;
    return;
  }
  const auto count = std::min(manifests_at_once, state.to_look_at.size());
  const std::vector<id128> keys{state.to_look_at.end() - static_cast<std::ptrdiff_t>(count),
                                state.to_look_at.end()};
  state.to_look_at.resize(state.to_look_at.size() - count);
  self->request(state.parts.pool, caf::infinite, read_atom_v, reading(state, keys))
      .then(
          [self, keys](const read_outcome& read) {
            auto& s = self->state;
            for (std::size_t i = 0; i < keys.size(); ++i) {
              const auto m = manifest_in(read->blocks[i]);
              if (m && is_scored(*m)) s.settled.insert(keys[i]);
              if (m && !is_scored(*m)) s.waiting.push_back(keys[i]);
            }
            look_at_next(self);
          },
          [self](const caf::error&) {
            self->state.to_look_at.clear();
            look_at_next(self);
          });
}

void list(self_pointer self) {
  auto& state = self->state;
  state.listing = true;
  self->request(state.parts.pool, caf::infinite, list_atom_v)
      .then(
          [self](const key_list& manifests) {
            auto& s = self->state;
            const std::set<id128> there{manifests.keys.begin(), manifests.keys.end()};
            std::erase_if(s.settled, [&](const id128& key) { return !there.contains(key); });
            std::erase_if(s.waiting, [&](const id128& key) { return !there.contains(key); });
            for (const auto& key : there) {
              const bool known =
                  s.settled.contains(key) || std::ranges::find(s.waiting, key) != s.waiting.end();
              if (!known && s.prefill_nodes.owner_of(key) == s.now->self) s.to_look_at.push_back(key);
            }
            look_at_next(self);
          },
          [self](const caf::error&) { look_at_next(self); });
}

// -- swapping --

void drop_blocks(self_pointer self, const manifest_ptr& m) {
  self->request(self->state.parts.pool, caf::infinite, drop_atom_v, key_list{keys_with_blocks(*m)})
      .then([](std::uint64_t) {}, [](const caf::error&) {});
}

void tell_decoders(self_pointer self, const id128& document) {
  for (const auto& [node, handles] : self->state.now->handles) {
    if (handles.decode) self->send(handles.decode, drop_atom_v, document);
  }
}

// Who decodes over them sparsely fetches blocks to the end of his answer; who decodes densely has read them,
// or computes them. A node that does not answer reads nothing.
void drop_when_unread(self_pointer self, const manifest_ptr& before) {
  const auto readers = std::make_shared<std::uint64_t>(0);
  const auto open = std::make_shared<std::size_t>(1);
  const auto finish = [self, before, readers, open] {
    if (--*open > 0) return;
    if (*readers == 0) return drop_blocks(self, before);
    self->delayed_send(self, self->state.grace, drop_atom_v, before);
  };
  for (const auto& [node, handles] : self->state.now->handles) {
    if (!handles.decode) continue;
    ++*open;
    self->request(handles.decode, write_timeout, size_atom_v, before->block_keys.front())
        .then(
            [readers, finish](std::uint64_t reading) {
              *readers += reading;
              finish();
            },
            [finish](const caf::error&) { finish(); });
  }
  finish();
}

// Holders that a change of the view has left with the former manifest lose it.
void drop_elsewhere(self_pointer self, const rescored_ptr& job, const std::vector<std::string>& written) {
  self->request(self->state.parts.pool, caf::infinite, locate_atom_v, key_list{{job->key}})
      .then(
          [self, job, written](const locate_reply& found) {
            const auto& now = *self->state.now;
            for (const auto& holder : found.keys[0].holders) {
              const auto* at = now.handles_of(holder.node);
              if (std::ranges::find(written, now.name_of(holder.node)) != written.end()) continue;
              if (!at || !at->storage) continue;
              self->request(at->storage, write_timeout, drop_atom_v, key_list{{job->key}})
                  .then([](std::uint64_t) {}, [](const caf::error&) {});
            }
          },
          [](const caf::error&) {});
}

void swap(self_pointer self, const rescored_ptr& job) {
  auto& state = self->state;
  const auto stays = [self, job](const std::string& why) {
    drop_blocks(self, job->after);
    give_up(self, job->key, job->before, why);
  };
  auto staged = stage_manifest(*job->after, *state.parts.room);
  if (!staged) return stays(staged.error().context);
  write_order order{.blocks = {std::move(*staged)},
                    .replicas = std::max(state.replicas, manifest_replicas),
                    .timeout = write_timeout,
                    .replace = true};
  self->request(state.parts.pool, caf::infinite, write_atom_v, std::move(order))
      .then(
          [self, job, stays](const write_outcome& written) {
            if (const auto& outcome = written->blocks[0]; !outcome) return stays(outcome.error().context);
            drop_elsewhere(self, job, written->holders);
            tell_decoders(self, job->after->document);
            settle(self->state, job->key);
            ++self->state.report.done;
            end_work(self);
            self->delayed_send(self, self->state.grace, drop_atom_v, job->before);
          },
          [stays](const caf::error& e) { stays(from_caf(e, "replacing its manifest").context); });
}

// Dropped by its user meanwhile: then it must not come back.
void swap_if_there(self_pointer self, const rescored_ptr& job) {
  self->request(self->state.parts.pool, caf::infinite, read_atom_v, reading(self->state, {job->key}))
      .then(
          [self, job](const read_outcome& read) {
            const auto m = manifest_in(read->blocks[0]);
            if (m && !is_scored(*m)) return swap(self, job);
            drop_blocks(self, job->after);
            settle(self->state, job->key);
            end_work(self);
          },
          [self, job](const caf::error& e) {
            drop_blocks(self, job->after);
            give_up(self, job->key, job->before, from_caf(e, "reading its manifest").context);
          });
}

void keep_pinned(self_pointer self, const rescored_ptr& job) {
  const auto go_on = [self, job] { swap_if_there(self, job); };
  self->request(self->state.parts.pool, caf::infinite, pin_atom_v, key_list{job->before->block_keys})
      .then(
          [self, job, go_on](const key_list& pinned) {
            if (pinned.keys.empty()) return go_on();
            self->request(self->state.parts.pool, caf::infinite, pin_atom_v, true,
                          key_list{keys_with_blocks(*job->after)})
                .then([go_on](std::uint64_t) { go_on(); }, [go_on](const caf::error&) { go_on(); });
          },
          [go_on](const caf::error&) { go_on(); });
}

// -- one document --

void score(self_pointer self, const id128& key, const manifest_ptr& m) {
  self->request(self->state.prefill, caf::infinite, encode_atom_v, rescore_order{m, self->state.scoring})
      .then(
          [self, key, m](const std::shared_ptr<const schema::manifest>& after) {
            if (after->document != m->document) {
              drop_blocks(self, after);
              return give_up(self, key, m, "it was stored for another model");
            }
            keep_pinned(self, std::make_shared<const rescored>(rescored{key, m, after}));
          },
          [self, key, m](const caf::error& e) {
            const auto why = from_caf(e, "scoring");
            if (why.code == errc::overloaded) return end_work(self);  // there is other work again
            give_up(self, key, m, why.context);
          });
}

void begin_next(self_pointer self) {
  const auto key = self->state.waiting.front();
  self->request(self->state.parts.pool, caf::infinite, read_atom_v, reading(self->state, {key}))
      .then(
          [self, key](const read_outcome& read) {
            const auto m = manifest_in(read->blocks[0]);
            if (m && !is_scored(*m)) return score(self, key, m);
            std::erase(self->state.waiting, key);  // gone, or scored by another node; the next listing tells
            end_work(self);
          },
          [self](const caf::error&) { end_work(self); });
}

// Sessions that decode on this node come first.
void begin_if_idle(self_pointer self) {
  self->state.working = true;
  self->request(self->state.parts.engine, caf::infinite, status_atom_v)
      .then(
          [self](std::uint64_t sessions) {
            if (sessions != 0 || self->state.waiting.empty()) return end_work(self);
            begin_next(self);
          },
          [self](const caf::error&) { end_work(self); });
}

void tick(self_pointer self) {
  auto& state = self->state;
  if (!state.now || !state.now->in_good_standing || state.working) return;
  if (state.prefill_nodes.empty()) return state.waiting.clear();
  if (!state.listing && state.parts.clock() >= state.next_listing) list(self);
  if (!state.waiting.empty()) begin_if_idle(self);
}

void adopt(self_pointer self, const cluster_ptr& now) {
  auto& state = self->state;
  state.now = now;
  auto view = now->view;
  const auto prefill = machines::with_role(view, static_cast<unsigned>(role::prefill));
  std::erase_if(view.members,
                [&](const auto& m) { return std::ranges::find(prefill, m.ref) == prefill.end(); });
  state.prefill_nodes = machines::shard_map{view};
  if (state.prefill_nodes.empty()) return;
  std::erase_if(state.waiting,
                [&](const id128& key) { return state.prefill_nodes.owner_of(key) != now->self; });
}

rescoring_actor::behavior_type behave(self_pointer self, const node_config& config, work_parts parts,
                                      local_prefill_actor prefill) {
  auto& state = self->state;
  state.parts = std::move(parts);
  state.prefill = std::move(prefill);
  state.scoring = {.importance = config.background_importance, .band_millionths = config.background_bands};
  state.read_deadline = config.read_deadline;
  state.grace = std::max<duration>(config.lease_duration, 2 * config.read_deadline);
  state.replicas = config.replicas;
  self->delayed_send(self, tick_interval, tick_atom_v);
  return {
      [self](status_atom) -> caf::result<rescoring_report> {
        auto report = self->state.report;
        report.waiting = self->state.waiting.size();
        return report;
      },
      [self](cluster_atom, const cluster_ptr& now) { adopt(self, now); },
      [self](drop_atom, const std::shared_ptr<const schema::manifest>& before) {
        tell_decoders(self, before->document);  // who read it while it was being replaced
        drop_when_unread(self, before);
      },
      [self](tick_atom) {
        tick(self);
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
  };
}

}  // namespace

rescoring_actor spawn_rescoring(caf::actor_system& system, const node_config& config, work_parts parts,
                                local_prefill_actor prefill) {
  return system.spawn(behave, config, std::move(parts), std::move(prefill));
}

}  // namespace weft::actors
