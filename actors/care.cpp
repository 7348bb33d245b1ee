#include <weft/actors/care.hpp>
#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/machines/pace.hpp>
#include <weft/machines/replication.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <spdlog/spdlog.h>

#include "tenants.hpp"

#include <algorithm>
#include <deque>
#include <optional>
#include <utility>
#include <variant>

namespace weft::actors {

namespace {

constexpr auto tick_interval = std::chrono::milliseconds{100};
constexpr auto locate_timeout = std::chrono::milliseconds{500};
constexpr auto lease_timeout = std::chrono::seconds{5};
constexpr auto offer_timeout = std::chrono::seconds{5};
constexpr std::size_t page_items = 1024;
constexpr std::uint64_t scrubbed_at_once_bytes = std::uint64_t{4}
                                                 << 20;  // storage does nothing else meanwhile
// Whoever is told of a rotten block may not hear it, and the directory may not know yet who has it.
constexpr unsigned rotten_rounds = 4;
constexpr auto rotten_round_interval = std::chrono::seconds{2};

// Blocks that were dropped here, of which another holder shall make copies.
struct rotten_batch {
  key_list keys;
  unsigned rounds = 0;  // of telling the other holders
  time_point due{};
};

struct care_state {
  static inline const char* name = "care";

  care_parts parts;
  cluster_ptr now;
  std::optional<machines::replication> copies;
  std::uint64_t copy_cursor = 0;

  std::optional<machines::pace> scrub_pace;
  std::uint64_t scrub_cursor = 0;
  std::deque<machines::held_item> to_scrub;
  bool scrubbing = false;  // waits for storage's answer
  std::deque<rotten_batch> rotten;
  care_report report;
};

using self_pointer = care_actor::stateful_pointer<care_state>;

void carry_out(self_pointer self, const std::vector<machines::replication_action>& actions);

// -- copies --

void list(self_pointer self, const machines::list_held& action) {
  auto& state = self->state;
  if (action.from_start) state.copy_cursor = 0;
  self->request(state.parts.storage, caf::infinite, list_atom_v, state.copy_cursor, page_items)
      .then(
          [self](const held_page& page) {
            auto& s = self->state;
            s.copy_cursor = page.next_cursor;
            carry_out(self, s.copies->on_held(page.items, s.parts.clock()));
          },
          [self](const caf::error&) {
            auto& s = self->state;
            carry_out(self, s.copies->on_held({}, s.parts.clock()));
          });
}

void find_holders(self_pointer self, const machines::find_holders& action) {
  const auto answer = [self, call = action.call](std::vector<machines::key_holders> holders) {
    auto& s = self->state;
    carry_out(self, s.copies->on_holders(call, std::move(holders), s.parts.clock()));
  };
  self->request(self->state.parts.pool, 2 * locate_timeout, locate_atom_v, key_list{action.keys})
      .then(
          [answer](const locate_reply& reply) {
            std::vector<machines::key_holders> holders;
            for (const auto& key : reply.keys)
              holders.push_back({key.holders, key.maybe});
            answer(std::move(holders));
          },
          [answer](const caf::error&) { answer({}); });
}

// An offer on its way: held in place by a lease until the target has answered.
struct copying {
  machines::offer_copies action;
  std::uint64_t lease = 0;
  std::vector<errc> outcomes;        // by item
  std::vector<std::size_t> offered;  // item of each block of the offer
};

void end_copying(self_pointer self, const std::shared_ptr<copying>& job) {
  auto& state = self->state;
  if (job->lease != 0) self->send(state.parts.storage, release_atom_v, job->lease);
  carry_out(self, state.copies->on_offered(job->action.call, job->outcomes, state.parts.clock()));
}

void send_offer(self_pointer self, const std::shared_ptr<copying>& job, offer what) {
  auto& state = self->state;
  const auto* to = state.now->handles_of(job->action.target.node);
  if (what.blocks.empty() || !to || !to->storage) {
    for (const auto index : job->offered)
      job->outcomes[index] = errc::unreachable;
    return end_copying(self, job);
  }
  self->request(to->storage, offer_timeout, offer_atom_v, std::move(what))
      .then(
          [self, job](const offer_reply& reply) {
            for (std::size_t i = 0; i < job->offered.size(); ++i) {
              job->outcomes[job->offered[i]] =
                  i < reply.outcomes.size() ? static_cast<errc>(reply.outcomes[i]) : errc::internal;
            }
            end_copying(self, job);
          },
          [self, job](const caf::error& e) {
            for (const auto index : job->offered)
              job->outcomes[index] = from_caf(e, "offering copies").code;
            end_copying(self, job);
          });
}

void copy(self_pointer self, const machines::offer_copies& action) {
  auto& state = self->state;
  auto job = std::make_shared<copying>();
  job->action = action;
  job->outcomes.assign(action.items.size(), errc::not_found);
  lease_request wanted{.reader = state.now->self, .keys = {}};
  for (const auto& item : action.items)
    wanted.keys.push_back(item.key);
  self->request(state.parts.storage, lease_timeout, lease_atom_v, std::move(wanted))
      .then(
          [self, job](const lease_reply& reply) {
            job->lease = reply.lease;
            offer what{.writer = self->state.now->self,
                       .blocks = {},
                       .timeout_ns = static_cast<std::uint64_t>(duration{offer_timeout}.count()) * 4 / 5,
                       .tenant = job->action.items.front().tenant,
                       .background = true};
            for (std::size_t i = 0; i < reply.slots.size(); ++i) {
              const auto& slot = reply.slots[i];
              if (slot.outcome != errc::ok) continue;
              what.blocks.push_back({job->action.items[i].key, slot.kind, slot.offset, slot.bytes});
              job->offered.push_back(i);
            }
            send_offer(self, job, std::move(what));
          },
          [self, job](const caf::error&) { end_copying(self, job); });
}

void carry_out(self_pointer self, const std::vector<machines::replication_action>& actions) {
  for (const auto& action : actions) {
    if (const auto* page = std::get_if<machines::list_held>(&action)) list(self, *page);
    if (const auto* keys = std::get_if<machines::find_holders>(&action)) find_holders(self, *keys);
    if (const auto* items = std::get_if<machines::offer_copies>(&action)) copy(self, *items);
  }
}

// Another holder's copy was rotten: see that there are enough again.
void mend(self_pointer self, const key_list& keys) {
  auto& state = self->state;
  if (!state.now) return;
  self->request(state.parts.storage, lease_timeout, lease_atom_v, lease_request{state.now->self, keys.keys})
      .then(
          [self, keys](const lease_reply& reply) {
            std::vector<machines::held_item> items;
            for (std::size_t i = 0; i < reply.slots.size(); ++i) {
              const auto& slot = reply.slots[i];
              if (slot.outcome == errc::ok)
                items.push_back({keys.keys[i], slot.kind, slot.bytes, slot.tenant});
            }
            if (reply.lease != 0) self->send(self->state.parts.storage, release_atom_v, reply.lease);
            self->state.copies->mend(std::move(items));
          },
          [](const caf::error&) {});
}

// -- scrub --

void tell_other_holders(self_pointer self, const key_list& rotten) {
  self->request(self->state.parts.pool, 2 * locate_timeout, locate_atom_v, rotten)
      .then(
          [self, rotten](const locate_reply& reply) {
            const auto& now = *self->state.now;
            for (std::size_t i = 0; i < reply.keys.size(); ++i) {
              for (const auto& holder : reply.keys[i].holders) {
                const auto* to = holder != now.self ? now.handles_of(holder.node) : nullptr;
                if (to && to->care) self->send(to->care, mend_atom_v, key_list{{rotten.keys[i]}});
              }
            }
          },
          [](const caf::error&) {});
}

// Whoever has another copy makes a new one.
void ask_for_new_copies(self_pointer self) {
  auto& state = self->state;
  const auto now = state.parts.clock();
  for (auto& batch : state.rotten) {
    if (batch.due > now) continue;
    tell_other_holders(self, batch.keys);
    ++batch.rounds;
    batch.due = now + rotten_round_interval;
  }
  std::erase_if(state.rotten, [](const rotten_batch& batch) { return batch.rounds >= rotten_rounds; });
}

void report_rotten(self_pointer self, const key_list& rotten) {
  auto& state = self->state;
  state.report.rotten_blocks += rotten.keys.size();
  spdlog::warn("storage: {} blocks no longer prove themselves and were dropped", rotten.keys.size());
  state.rotten.push_back({.keys = rotten});
  ask_for_new_copies(self);
}

void scrub(self_pointer self);

void list_for_scrub(self_pointer self) {
  auto& state = self->state;
  self->request(state.parts.storage, caf::infinite, list_atom_v, state.scrub_cursor, page_items)
      .then(
          [self](const held_page& page) {
            auto& s = self->state;
            s.scrubbing = false;
            s.scrub_cursor = page.items.empty() ? 0 : page.next_cursor;
            s.to_scrub.assign(page.items.begin(), page.items.end());
            if (!page.items.empty()) scrub(self);
          },
          [self](const caf::error&) { self->state.scrubbing = false; });
}

void scrub(self_pointer self) {
  auto& state = self->state;
  if (state.scrubbing || !state.scrub_pace || !state.scrub_pace->may_begin(state.parts.clock())) return;
  state.scrubbing = true;
  if (state.to_scrub.empty()) return list_for_scrub(self);
  key_list batch;
  for (std::uint64_t bytes = 0; !state.to_scrub.empty() && bytes < scrubbed_at_once_bytes;) {
    bytes += state.to_scrub.front().bytes;
    state.scrub_pace->spend(state.to_scrub.front().bytes);
    batch.keys.push_back(state.to_scrub.front().key);
    state.to_scrub.pop_front();
  }
  state.report.scrubbed_blocks += batch.keys.size();
  self->request(state.parts.storage, caf::infinite, prove_atom_v, std::move(batch))
      .then(
          [self](const key_list& rotten) {
            self->state.scrubbing = false;
            if (!rotten.keys.empty()) report_rotten(self, rotten);
            scrub(self);
          },
          [self](const caf::error&) { self->state.scrubbing = false; });
}

void adopt(self_pointer self, const cluster_ptr& now) {
  auto& state = self->state;
  state.now = now;
  state.copies->on_view(now->self, machines::with_role(now->view, static_cast<unsigned>(role::storage)), {},
                        state.parts.clock());
}

care_actor::behavior_type behave(self_pointer self, const node_config& config, care_parts parts) {
  auto& initial = self->state;
  initial.parts = std::move(parts);
  machines::replication_options options;
  options.block_copies = config.replicas;
  for (const auto& [tenant, copies] : config.tenant_replicas)
    options.tenant_copies[tenant_number(tenant)] = copies;
  options.bytes_per_second = config.replication_bytes_per_second;
  initial.copies.emplace(options);
  if (config.scrub_bytes_per_second != 0) initial.scrub_pace.emplace(config.scrub_bytes_per_second);
  self->delayed_send(self, tick_interval, tick_atom_v);
  return {
      [self](mend_atom, const key_list& keys) { mend(self, keys); },
      [self](status_atom) -> caf::result<care_report> {
        auto report = self->state.report;
        const auto& stats = self->state.copies->stats();
        report.copies_made = stats.copies_made;
        report.copies_failed = stats.copies_failed;
        report.bytes_copied = stats.bytes_copied;
        return report;
      },
      [self](cluster_atom, const cluster_ptr& now) { adopt(self, now); },
      [self](tick_atom) {
        auto& state = self->state;
        if (state.now && state.now->in_good_standing)
          carry_out(self, state.copies->tick(state.parts.clock()));
        if (state.now) {
          ask_for_new_copies(self);
          scrub(self);
        }
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
  };
}

}  // namespace

care_actor spawn_care(caf::actor_system& system, const node_config& config, care_parts parts) {
  return system.spawn(behave, config, std::move(parts));
}

}  // namespace weft::actors
