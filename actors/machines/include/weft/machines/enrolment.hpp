// A node's own side of membership: when to join, when to beat, what a silence of the coordinator means.
//
// The node holds a lease on its life that runs from the *sending* of the last message that the coordinator
// answered. While it runs, nobody has declared the node dead. Once it ran out the node is `isolated`: it may
// have been declared dead. It goes on serving what it holds (blocks prove themselves), but acknowledges no
// write until the coordinator answered again. Told that it is fenced, or unknown to a coordinator that came
// later, it joins with a new incarnation. Who the coordinator is, `succession` knows.
#pragma once

#include <weft/base/time.hpp>
#include <weft/machines/membership.hpp>
#include <weft/machines/view.hpp>

#include <cstdint>
#include <deque>
#include <optional>
#include <variant>
#include <vector>

namespace weft::machines {

struct enrolment_options {
  duration heartbeat_interval = std::chrono::milliseconds(500);
  duration lease = std::chrono::milliseconds(1800);         // less than the coordinator's liveness timeout
  duration join_interval = std::chrono::milliseconds(500);  // between attempts
};

enum class enrolment_state : std::uint8_t {
  joining,   // not in any view yet, or fenced and on the way back
  active,    // in the view, lease running
  isolated,  // was active; the coordinator has not answered for a lease
};

// What the node is to do. Answers come back with the ticket.
struct send_join {
  std::uint64_t ticket = 0;
  member who;
  std::uint64_t known_epoch = 0;
  node_ref known_from;  // the coordinator that published it
};
struct send_heartbeat {
  std::uint64_t ticket = 0;
  node_ref from;
  std::uint64_t known_epoch = 0;
  node_ref known_from;
};
struct became_active {};    // first time, or again after isolation or fencing
struct became_isolated {};  // stop acknowledging writes
struct became_fenced {      // the former life is over; `send_join` with the new one follows
  node_ref former;
  node_ref next;
};
struct adopted_view {  // `current()` is new
  view_difference change;
};
struct lost_coordinator {};  // who was asked holds no membership
using enrolment_action = std::variant<send_join, send_heartbeat, became_active, became_isolated,
                                      became_fenced, adopted_view, lost_coordinator>;

class enrolment {
 public:
  enrolment(member self, enrolment_options options);

  std::vector<enrolment_action> tick(time_point now);

  // The answer to a join or a heartbeat. Late, repeated and made-up tickets are harmless.
  std::vector<enrolment_action> on_answer(std::uint64_t ticket, const membership_answer& answer,
                                          time_point now);

  // A view came, with an answer or by itself. Older ones than the current are ignored.
  std::vector<enrolment_action> on_view(const view& v, time_point now);

  // The control connection broke: what is outstanding gets no answer, so try again at the next tick.
  void on_connection_lost();

  // May the node acknowledge writes? Asks the lease, so it is right also when no tick came for long.
  bool in_good_standing(time_point now) const;

  // When the last message was sent that a coordinator accepted.
  std::optional<time_point> last_accepted() const;

  enrolment_state state() const { return state_; }
  const member& self() const { return self_; }
  const view& current() const { return view_; }
  std::optional<time_point> next_deadline() const;

 private:
  struct sent {
    std::uint64_t ticket;
    std::uint64_t incarnation;
    time_point at;
  };

  std::uint64_t note_sent(time_point now);
  std::optional<sent> take_sent(std::uint64_t ticket);
  void send(std::vector<enrolment_action>& actions, time_point now);
  void accepted(std::vector<enrolment_action>& actions, const sent& message, time_point now);
  void forgotten(std::vector<enrolment_action>& actions, time_point now);
  void rejoin(std::vector<enrolment_action>& actions, std::uint64_t floor, time_point now);

  member self_;
  enrolment_options options_;
  enrolment_state state_ = enrolment_state::joining;
  view view_;
  std::uint64_t next_ticket_ = 1;
  std::deque<sent> outstanding_;
  std::optional<time_point> lease_end_;
  std::optional<time_point> next_send_;
};

}  // namespace weft::machines
