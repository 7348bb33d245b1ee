// The coordinator's side of membership: who is alive, as an epoch-numbered view.
//
// Every change of the members makes a new epoch. Epochs only grow, also across coordinators: joiners and
// heartbeats report the highest epoch they have seen, and the view is lifted above it.
//
// Liveness is a lease: a member not heard of for `liveness_timeout` is declared dead and leaves the view. Its
// incarnation is fenced from then on; it may come back with a higher one. A time in which the coordinator
// itself did not run does not count as silence of the others.
//
// A coordinator that takes over inherits the view of the one it follows: its members count as heard of at
// that moment. One that knows no view (a joiner has seen an epoch that it has not) publishes nothing for one
// `liveness_timeout`, so that members on their way to it do not look dead to those that came first.
//
// Several coordinators may be at work while a network is split. No two publish the same epoch: an epoch
// divided by `epoch_step` leaves the publisher's `epoch_remainder`. Only one that was restarted and has met
// nobody yet may repeat an epoch of its former life; it is lifted above it as soon as it hears of it.
#pragma once

#include <weft/base/time.hpp>
#include <weft/machines/view.hpp>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace weft::machines {

struct membership_options {
  duration liveness_timeout = std::chrono::milliseconds(2000);
  // Between two calls of `tick` no more than this passes while the coordinator is well.
  duration longest_pause = std::chrono::milliseconds(500);
  // A suspect that stays silent for so long is dead.
  duration suspicion = std::chrono::milliseconds(750);
  node_ref coordinator{};  // named in the views
  std::uint64_t epoch_step = 1;
  std::uint64_t epoch_remainder = 0;
};

enum class standing : std::uint8_t {
  accepted,  // alive, in the view
  fenced,    // this incarnation is over: join again with `incarnation_floor` or more
  unknown,   // this coordinator does not know the node: join again; a node that was in a view before, as a
             // new life, since others may know that this one is over
  not_coordinator,  // whoever was asked holds no membership: look for the one who does
};

struct membership_answer {
  standing verdict = standing::unknown;
  std::uint64_t incarnation_floor = 0;  // the lowest incarnation with which that name may join
  std::uint64_t epoch = 0;              // of the coordinator's view
  bool view_changed = false;            // publish the view to everyone
  bool send_view = false;               // the asking node's view is older: answer with the view
};

struct membership_changes {
  std::vector<node_ref> dead;  // out of the view since this tick
  bool view_changed = false;   // publish the view to everyone
};

class membership {
 public:
  membership(membership_options options, time_point now);

  // Takes over from another coordinator, whose last known view this is (without that coordinator, where it is
  // believed dead). The first view to publish is `current()`.
  membership(membership_options options, const view& inherited, time_point now);

  // The same join again is accepted and changes nothing. A higher incarnation replaces a live one of that
  // name; an equal incarnation under another node id, or a lower one, is fenced.
  // `known_from`: the coordinator that published the known epoch.
  membership_answer join(const member& who, std::uint64_t known_epoch, time_point now,
                         const node_ref& known_from = {});

  membership_answer heartbeat(const node_ref& from, std::uint64_t known_epoch, time_point now,
                              const node_ref& known_from = {});

  // An orderly farewell. That incarnation is over. True where the view is to be published.
  bool leave(const node_ref& who, time_point now);

  // Its connection broke: it has less time to speak up than others.
  void suspect(const node_ref& who, time_point now);

  // Declares the silent dead.
  membership_changes tick(time_point now);

  // When `tick` has something to do if nothing is heard until then.
  std::optional<time_point> next_deadline() const;

  const view& current() const { return view_; }

 private:
  struct record {
    node_ref ref;  // the latest life under that name
    bool alive = false;
    time_point heard{};
  };

  std::uint64_t epoch_above(std::uint64_t epoch) const;
  void next_epoch() { view_.epoch = epoch_above(view_.epoch); }
  void forgive_own_pause(time_point now);
  bool lift_above(std::uint64_t known_epoch, const node_ref& known_from, time_point now);
  bool settling(time_point now) const;
  void declare_dead(record& r);
  record* find_record(const id128& node);
  membership_answer answer(standing verdict, const record* r, std::uint64_t known_epoch, bool changed,
                           time_point now) const;

  membership_options options_;
  view view_;
  std::map<std::string, record, std::less<>> records_;  // by name: as many as the cluster file has
  time_point started_;
  time_point last_call_;
  std::optional<time_point> settles_at_;
  bool inherited_ = false;
};

}  // namespace weft::machines
