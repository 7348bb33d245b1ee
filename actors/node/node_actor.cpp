#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/node_actor.hpp>

#include <caf/actor_cast.hpp>
#include <caf/send.hpp>
#include <spdlog/spdlog.h>

#include "node_state.hpp"
#include "node_status.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <variant>

namespace weft::actors {

namespace {

using self_pointer = node_pointer;

bool is_ready(const node_state& state, const readiness& wanted) {
  if (!state.enrolment || state.enrolment->state() != machines::enrolment_state::active) return false;
  std::uint32_t roles = state.enrolment->self().roles;
  std::set<std::string_view> nodes{state.enrolment->self().name};
  for (const auto& member : state.enrolment->current().members) {
    if (!state.handles.contains(member.ref.node)) continue;
    roles |= member.roles;
    nodes.insert(member.name);
  }
  return (roles & wanted.roles) == wanted.roles &&
         std::ranges::all_of(wanted.nodes, [&](const auto& name) { return nodes.contains(name); });
}

void answer_waiting(node_state& state) {
  std::erase_if(state.waiting, [&](waiting_for_cluster& w) {
    if (!is_ready(state, w.wanted)) return false;
    w.promise.deliver(state.enrolment->current().epoch);
    return true;
  });
}

void tell_everyone(self_pointer self) {
  auto& state = self->state;
  auto now = std::make_shared<cluster>();
  now->view = state.enrolment->current();
  now->self = state.enrolment->self().ref;
  now->in_good_standing = state.enrolment->in_good_standing(state.parts.clock());
  now->handles = state.handles;
  now->handles[now->self.node] = state.parts.roles;
  const cluster_ptr message = std::move(now);
  self->send(state.parts.fabric, cluster_atom_v, message);
  self->send(state.parts.pool, cluster_atom_v, message);
  self->send(state.parts.roles.directory, cluster_atom_v, message);
  if (state.parts.roles.storage) self->send(state.parts.roles.storage, cluster_atom_v, message);
  if (state.parts.roles.care) self->send(state.parts.roles.care, cluster_atom_v, message);
  if (state.parts.roles.prefill) self->send(state.parts.roles.prefill, cluster_atom_v, message);
  if (state.parts.roles.decode) self->send(state.parts.roles.decode, cluster_atom_v, message);
  if (state.parts.rescoring) self->send(state.parts.rescoring, cluster_atom_v, message);
  if (state.parts.roles.retrieval) self->send(state.parts.roles.retrieval, cluster_atom_v, message);
  if (state.parts.gateway) self->send(state.parts.gateway, cluster_atom_v, message);
  answer_waiting(state);
}

void peer_reached(self_pointer self, const machines::node_ref& to, const result<node_actor>& node);

void connect_peers(self_pointer self) {
  auto& state = self->state;
  for (const auto& member : state.enrolment->current().members) {
    if (member.ref.node == state.enrolment->self().ref.node) continue;
    auto& to = state.peers[member.ref.node];
    if (to.incarnation != member.ref.incarnation)
      to = peer{.incarnation = member.ref.incarnation, .connecting = false, .node = {}};
    if (to.node || to.connecting) continue;
    const auto caller = state.callers.find(member.ref.node);
    to.connecting = caller != state.callers.end() || connects_to(state, member.ref.node);
    if (caller != state.callers.end()) {
      peer_reached(self, member.ref, caller->second);
    } else if (to.connecting) {
      open_link(self, member.ref, member.host, member.control_port);
    }
  }
}

void forget(self_pointer self, const machines::node_ref& gone) {
  self->state.peers.erase(gone.node);
  self->state.handles.erase(gone.node);
}

void answered(self_pointer self, std::uint64_t ticket, const membership_reply& reply) {
  auto& state = self->state;
  carry_out(self, state.enrolment->on_answer(ticket, reply.answer, state.parts.clock()));
  if (reply.view.epoch != 0) carry_out(self, state.enrolment->on_view(reply.view, state.parts.clock()));
}

template <class Atom, class Message>
void send_to_coordinator(self_pointer self, std::uint64_t ticket, Atom atom, Message message) {
  auto& state = self->state;
  if (!state.coordinator) return state.enrolment->on_connection_lost();
  self->request(state.coordinator, state.config.liveness_timeout / 2, atom, std::move(message))
      .then([self, ticket](const membership_reply& reply) { answered(self, ticket, reply); },
            [self](const caf::error&) { self->state.enrolment->on_connection_lost(); });
}

}  // namespace

void open_link(node_pointer self, link_target to, const std::string& host, std::uint16_t port) {
  self->state.parts.network->connect(host, port,
                                     [to, me = caf::actor_cast<node_port>(self)](result<node_actor> node) {
                                       caf::anon_send(me, connected_atom_v, opened_link{to, std::move(node)});
                                     });
}

bool connects_to(const node_state& state, const id128& other) {
  const auto& ranked = state.parts.candidates;
  const auto place = [&](const id128& node) {
    return std::pair{std::ranges::find(ranked, node) - ranked.begin(), node};
  };
  return place(state.parts.self.ref.node) > place(other);
}

void carry_out(self_pointer self, const std::vector<machines::enrolment_action>& actions) {
  auto& state = self->state;
  if (state.leaving) return;
  bool changed = false;
  for (const auto& action : actions) {
    if (const auto* join = std::get_if<machines::send_join>(&action)) {
      send_to_coordinator(self, join->ticket, join_atom_v,
                          join_request{join->who, join->known_epoch, join->known_from});
    } else if (const auto* beat = std::get_if<machines::send_heartbeat>(&action)) {
      send_to_coordinator(self, beat->ticket, heartbeat_atom_v,
                          heartbeat{beat->from, beat->known_epoch, beat->known_from});
    } else if (std::holds_alternative<machines::lost_coordinator>(action)) {
      coordinator_lost(self);
    } else {
      changed = true;
    }
    if (const auto* view = std::get_if<machines::adopted_view>(&action)) {
      for (const auto& gone : view->change.gone)
        forget(self, gone);
      follow_publisher(self, state.enrolment->current().coordinator);
    }
    if (std::holds_alternative<machines::became_isolated>(action)) {
      spdlog::warn(
          "{}: the coordinator has not answered for a lease; writes are not acknowledged until it does",
          state.config.name);
    }
    if (std::holds_alternative<machines::became_fenced>(action)) {
      spdlog::warn("{}: was declared dead meanwhile; joining anew", state.config.name);
    }
  }
  if (!changed) return;
  connect_peers(self);
  tell_everyone(self);
}

namespace {

void peer_reached(self_pointer self, const machines::node_ref& to, const result<node_actor>& node) {
  const auto failed = [self, to](const error& why) {
    spdlog::debug("{}: {}", self->state.config.name, to_string(why));
    if (auto entry = self->state.peers.find(to.node); entry != self->state.peers.end())
      entry->second.connecting = false;
  };
  if (!node) return failed(node.error());
  self->request(*node, roles_timeout, roles_atom_v)
      .then(
          [self, to, node = *node](const role_handles& roles) {
            auto& now = self->state;
            const auto entry = now.peers.find(to.node);
            if (entry == now.peers.end() || entry->second.incarnation != to.incarnation) return;
            entry->second.connecting = false;
            entry->second.node = node;
            self->monitor(node);
            now.handles[to.node] = roles;
            tell_everyone(self);
          },
          [failed](const caf::error& e) { failed(from_caf(e, "asking a node for its actors")); });
}

// Until it has heard of it: only so does it find the way back.
void greet(self_pointer self, const node_actor& node) {
  const auto& state = self->state;
  const auto is_link = [node](const auto& link) { return link.node == node; };
  const auto is_peer = [node](const auto& peer) { return peer.second.node == node; };
  const auto me = state.enrolment ? state.enrolment->self().ref : state.parts.self.ref;
  self->request(node, greet_timeout, greet_atom_v, me, caf::actor_cast<caf::strong_actor_ptr>(self))
      .then([](std::uint64_t) {},
            [self, node, is_link, is_peer](const caf::error&) {
              const auto& now = self->state;
              if (std::ranges::any_of(now.peers, is_peer) || std::ranges::any_of(now.candidates, is_link))
                greet(self, node);
            });
}

std::uint64_t greeted(self_pointer self, const machines::node_ref& by, const caf::strong_actor_ptr& from) {
  auto& state = self->state;
  auto node = caf::actor_cast<node_actor>(from);
  if (node && !state.leaving) {
    auto& known = state.callers[by.node];
    if (known != node) self->monitor(node);
    known = std::move(node);
    if (state.enrolment) {
      candidate_called(self, by.node);
      connect_peers(self);
    }
  }
  return state.enrolment ? state.enrolment->current().epoch : 0;
}

// A dead process is known by its broken connections long before its silence tells.
void connection_broke(self_pointer self, const caf::actor_addr& gone) {
  auto& state = self->state;
  bool changed = false;
  std::erase_if(state.callers, [&](const auto& caller) { return caller.second.address() == gone; });
  for (auto& [node, to] : state.peers) {
    if (!to.node || to.node.address() != gone) continue;
    to.node = node_actor{};
    state.handles.erase(node);
    changed = true;
    if (state.parts.membership)
      self->send(state.parts.membership, suspect_atom_v, machines::node_ref{node, to.incarnation});
  }
  forget_candidate(self, gone);
  if (changed) tell_everyone(self);
}

void publish(self_pointer self, const machines::view& v) {
  auto& state = self->state;
  if (state.succession->role() != machines::succession_role::leading) return;
  carry_out(self, state.enrolment->on_view(v, state.parts.clock()));
  for (const auto& member : v.members) {
    const auto to = state.peers.find(member.ref.node);
    if (to != state.peers.end() && to->second.node) self->send(to->second.node, view_atom_v, v);
  }
}

void join(self_pointer self, std::uint16_t port) {
  auto& state = self->state;
  auto me = state.parts.self;
  me.control_port = port;
  state.enrolment.emplace(std::move(me),
                          machines::enrolment_options{.heartbeat_interval = state.config.heartbeat_interval,
                                                      .lease = state.config.liveness_timeout * 9 / 10,
                                                      .join_interval = state.config.heartbeat_interval});
  state.candidates.resize(state.parts.candidates.size());
  machines::succession_options options;
  options.candidates = static_cast<unsigned>(state.candidates.size());
  options.rank = state.parts.rank;
  options.watch_interval = 2 * state.config.heartbeat_interval;
  options.start_patience = 4 * state.config.liveness_timeout;
  options.follow_patience = state.config.liveness_timeout / 2;
  // Time for one that leads to ask this node, which is when it connects.
  options.first_patience = 2 * options.watch_interval;
  state.succession.emplace(options, state.parts.clock());
  self->send(self, tick_atom_v);
}

auto report_cluster(self_pointer self) {
  auto& state = self->state;
  std::vector<status_source> nodes;
  for (const auto& member : state.enrolment->current().members) {
    const auto known = state.peers.find(member.ref.node);
    nodes.push_back({member, known == state.peers.end() ? node_actor{} : known->second.node});
    if (member.ref.node == state.enrolment->self().ref.node)
      nodes.back().node = caf::actor_cast<node_actor>(self);
  }
  return self->delegate(
      spawn_cluster_gatherer(self->home_system(), state.enrolment->current().epoch, std::move(nodes)),
      status_atom_v);
}

node_port::behavior_type behave(self_pointer self, const node_config& config, node_parts parts) {
  self->state.config = config;
  self->state.parts = std::move(parts);
  const auto tick_interval = config.heartbeat_interval / 4;
  self->set_down_handler([self](const caf::down_msg& down) { connection_broke(self, down.source); });
  return {
      [self](roles_atom) -> caf::result<role_handles> { return self->state.parts.roles; },
      [self](status_atom) -> caf::result<node_report> {
        auto& state = self->state;
        const auto& me = state.enrolment ? state.enrolment->self() : state.parts.self;
        return self->delegate(
            spawn_node_gatherer(
                self->home_system(),
                {me, state.parts.roles.storage, state.parts.fabric, state.parts.pool, state.parts.roles.care,
                 state.parts.roles.retrieval, state.parts.decode, state.parts.rescoring, state.parts.device}),
            status_atom_v);
      },
      [self](status_atom, cluster_atom) -> caf::result<cluster_report> {
        if (!self->state.enrolment)
          return to_caf({errc::unreachable, "this node has not joined its cluster yet"});
        return report_cluster(self);
      },
      [self](join_atom, std::uint16_t port) { join(self, port); },
      [self](lead_atom) -> caf::result<machines::candidate_state> {
        if (!self->state.enrolment) return to_caf({errc::unreachable, "this node is only starting"});
        return describe_candidate(self->state);
      },
      [self](greet_atom, const machines::node_ref& by, const caf::strong_actor_ptr& from) -> std::uint64_t {
        return greeted(self, by, from);
      },
      [self](view_atom, const machines::view& v) {
        auto& state = self->state;
        if (state.enrolment) carry_out(self, state.enrolment->on_view(v, state.parts.clock()));
      },
      [self](publish_atom, const machines::view& v) { publish(self, v); },
      [self](ready_atom, const readiness& wanted) -> caf::result<std::uint64_t> {
        auto promise = self->make_response_promise<std::uint64_t>();
        self->state.waiting.push_back({wanted, promise});
        answer_waiting(self->state);
        return promise;
      },
      [self](leave_atom) -> caf::result<std::uint64_t> {
        auto& state = self->state;
        state.leaving = true;
        if (state.coordinator && state.enrolment)
          self->send(state.coordinator, leave_atom_v, state.enrolment->self().ref);
        return state.enrolment ? state.enrolment->current().epoch : std::uint64_t{0};
      },
      [self, tick_interval](tick_atom) {
        auto& state = self->state;
        if (state.leaving) return;
        tick_succession(self);
        if (state.coordinator) carry_out(self, state.enrolment->tick(state.parts.clock()));
        connect_peers(self);
        self->delayed_send(self, tick_interval, tick_atom_v);
      },
      [self](connected_atom, const opened_link& link) {
        if (link.node) greet(self, *link.node);
        if (const auto* rank = std::get_if<unsigned>(&link.to))
          return candidate_reached(self, *rank, link.node);
        peer_reached(self, std::get<machines::node_ref>(link.to), link.node);
      },
  };
}

}  // namespace

std::vector<std::string> role_names(std::uint32_t bits) {
  static constexpr std::array<const char*, 5> names{"prefill", "storage", "decode", "gateway", "retrieval"};
  std::vector<std::string> found;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if ((bits >> i) & 1U) found.emplace_back(names[i]);
  }
  return found;
}

node_actor spawn_node(caf::actor_system& system, const node_config& config, node_parts parts) {
  return system.spawn(behave, config, std::move(parts));
}

}  // namespace weft::actors
