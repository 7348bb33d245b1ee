// Which node holds the membership, seen from one node.
//
// The first nodes of the cluster file are candidates, ranked by their place in it. A node without coordinator
// asks all candidates in rounds. One that leads is followed. Where nobody leads and nobody still hears the
// coordinator that was lost, the best of the candidates that answered leads: the one that knows the latest
// view, among equals the first in rank. A candidate that has never seen a view gives better ranked ones time
// to start.
//
// Both sides of a split network get a coordinator each. A coordinator goes on asking the others; the one with
// the lower epoch steps down when they meet, and its members follow.
#pragma once

#include <weft/base/time.hpp>
#include <weft/machines/node_ref.hpp>

#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace weft::machines {

inline constexpr unsigned max_candidates = 16;

struct succession_options {
  unsigned candidates = 1;         // at most `max_candidates`
  std::optional<unsigned> rank{};  // of this node; none: it is no candidate
  duration answer_timeout = std::chrono::milliseconds(200);
  duration round_interval = std::chrono::milliseconds(100);  // between two rounds without result
  duration watch_interval = std::chrono::milliseconds(500);  // between two rounds of a coordinator
  duration start_patience = std::chrono::seconds(6);
  duration first_patience{};  // of the first in rank, where some neither answer nor are known to be away
  duration follow_patience = std::chrono::milliseconds(750);  // for a new coordinator to accept the node
};

// What a candidate says of itself when it is asked.
struct candidate_state {
  node_ref self;
  bool leads = false;
  bool hears = false;      // it does not lead, and its coordinator answered it a short while ago
  node_ref coordinator{};  // the one it follows or has lost
  std::uint64_t epoch = 0;
};

// What the node is to do.
struct ask_candidate {
  std::uint64_t round = 0;
  unsigned rank = 0;
};
struct follow {
  unsigned rank = 0;
};
struct lead {
  bool lost_is_dead = true;  // the former coordinator answered nobody: leave it out of the first view
};
struct step_down {};
using succession_action = std::variant<ask_candidate, follow, lead, step_down>;

enum class succession_role : std::uint8_t { seeking, following, leading };

class succession {
 public:
  succession(succession_options options, time_point now);

  // `epoch` and `coordinator` are those of the node's view.
  // `in_good_standing`: the lease that a coordinator has given this node still runs.
  std::vector<succession_action> tick(const candidate_state& own, bool in_good_standing, time_point now);

  // Rounds that are over, and ranks that were not asked, are ignored. The owner reports everyone it asked.
  std::vector<succession_action> on_answer(std::uint64_t round, unsigned rank, const candidate_state& answer,
                                           const candidate_state& own, time_point now);
  std::vector<succession_action> on_no_answer(std::uint64_t round, unsigned rank, const candidate_state& own,
                                              time_point now);

  // The coordinator is silent, gone, or is none any more.
  std::vector<succession_action> on_coordinator_lost(const candidate_state& own, time_point now);

  // A later view came, published by the candidate of that rank.
  std::vector<succession_action> on_view_of(unsigned rank, time_point now);

  succession_role role() const { return role_; }
  std::optional<unsigned> followed() const { return followed_; }

 private:
  struct asked {
    bool open = false;
    std::optional<candidate_state> answer;
  };

  void begin_round(std::vector<succession_action>& actions, const candidate_state& own, time_point now);
  void end_round(std::vector<succession_action>& actions, const candidate_state& own, time_point now);
  void end_if_complete(std::vector<succession_action>& actions, const candidate_state& own, time_point now);
  void give_way(std::vector<succession_action>& actions, const candidate_state& own, time_point now);
  std::optional<unsigned> leader() const;
  bool somebody_hears(const candidate_state& own) const;
  bool is_best(const candidate_state& own) const;
  bool may_start(const candidate_state& own, time_point now) const;
  void start_following(std::vector<succession_action>& actions, unsigned rank, time_point now);

  succession_options options_;
  succession_role role_ = succession_role::seeking;
  std::optional<unsigned> followed_;
  time_point followed_since_{};
  time_point started_;
  std::uint64_t round_ = 0;
  bool in_round_ = false;
  time_point round_ends_{};
  time_point next_round_;
  std::vector<asked> asked_;  // by rank
};

}  // namespace weft::machines
