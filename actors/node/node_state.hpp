// What the node actor's parts share: its books, and what it does to find and follow a coordinator.
#pragma once

#include <weft/actors/node_actor.hpp>
#include <weft/machines/enrolment.hpp>
#include <weft/machines/succession.hpp>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace weft::actors {

// Whom a connection is for: a member of the view, or a candidate, member or not.
using link_target = std::variant<machines::node_ref, unsigned>;

struct opened_link {
  link_target to;
  result<node_actor> node;
};

}  // namespace weft::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::opened_link)

namespace weft::actors {

using node_port = node_actor::extend<caf::reacts_to<connected_atom, opened_link>,
                                     // This node leads, and the view has changed.
                                     caf::reacts_to<publish_atom, machines::view>>;

// The way to another node's actors.
struct peer {
  std::uint64_t incarnation = 0;
  bool connecting = false;
  node_actor node;
};

struct candidate_link {
  bool connecting = false;
  node_actor node;
  membership_actor membership;
  std::optional<std::uint64_t> asked_in;  // the round in which it is to be asked once it is reached
  std::string complaint;                  // why it refused this node, as told last
};

struct waiting_for_cluster {
  readiness wanted;
  caf::typed_response_promise<std::uint64_t> promise;
};

struct node_state {
  static inline const char* name = "node";

  node_config config;
  node_parts parts;
  std::optional<machines::enrolment> enrolment;
  std::optional<machines::succession> succession;
  bool leaving = false;                    // says nothing more of itself
  std::vector<candidate_link> candidates;  // by rank
  membership_actor coordinator;            // null: none is known, or it is not reached yet
  std::map<id128, peer> peers;
  std::map<id128, node_actor> callers;    // connected to this node, which does not connect to them
  std::map<id128, role_handles> handles;  // of nodes in the view
  std::vector<waiting_for_cluster> waiting;
};

using node_pointer = node_port::stateful_pointer<node_state>;

constexpr auto roles_timeout = std::chrono::seconds{2};
constexpr auto greet_timeout = std::chrono::seconds{1};

void open_link(node_pointer self, link_target to, const std::string& host, std::uint16_t port);

// Whether this node connects to that one. Of two nodes one does and then greets the other: where both do at
// once, CAF 0.17 may be left with a connection for each direction, over which no answer finds its way.
bool connects_to(const node_state& state, const id128& other);

// What the enrolment machine wants done.
void carry_out(node_pointer self, const std::vector<machines::enrolment_action>& actions);

// -- finding and following a coordinator (node_succession.cpp) --

machines::candidate_state describe_candidate(const node_state& state);

void tick_succession(node_pointer self);

void coordinator_lost(node_pointer self);

// The view is from that coordinator.
void follow_publisher(node_pointer self, const machines::node_ref& coordinator);

// A connection to the candidate of that rank came about, or did not.
void candidate_reached(node_pointer self, unsigned rank, const result<node_actor>& node);

// That node has connected to this one; it may be a candidate.
void candidate_called(node_pointer self, const id128& node);

// That actor is gone: forget the candidate that it stood for.
void forget_candidate(node_pointer self, const caf::actor_addr& gone);

}  // namespace weft::actors
