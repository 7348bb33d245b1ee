// Decides over a set of child processes: when to start them, start them again, end them. Told what happened
// and when; says what is to be done. No processes, signals or clocks in here.
#pragma once

#include <weft/base/time.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

namespace weft::launcher {

struct fleet_rules {
  duration first_delay = std::chrono::milliseconds(250);  // before a child is started again; doubles
  duration longest_delay = std::chrono::seconds(8);
  duration stable_after = std::chrono::seconds(10);   // a child that ran so long starts afresh with delays
  duration ready_within = std::chrono::seconds(120);  // from the first start on
  duration grace = std::chrono::seconds(10);          // from SIGTERM to SIGKILL
};

enum class child_end {
  done,    // exit code 0: by its own wish, not started again
  failed,  // any other exit code
  killed,  // by a signal
};

struct fleet_action {
  enum class kind { start, terminate, kill };
  kind what;
  std::size_t child;
};

class fleet {
 public:
  using actions = std::vector<fleet_action>;

  fleet(std::size_t children, fleet_rules rules);

  actions begin(time_point now);
  // The child says that it works.
  void ready(std::size_t child);
  // The child's process has ended. One that fails before it was ever ready takes the fleet down: what is
  // wrong with its start will not mend by trying again.
  actions ended(std::size_t child, child_end how, time_point now);
  // Asked to stop; asked again, at once.
  actions stop(time_point now);
  // A deadline may have passed.
  actions tick(time_point now);

  // When `tick` is due next.
  std::optional<time_point> next_deadline() const;
  // When the child, which has ended, will be started again.
  std::optional<time_point> restart_of(std::size_t child) const;
  // Every child has been ready at least once.
  bool all_ready() const;
  // Nothing runs and nothing will be started.
  bool finished() const;
  // The child whose start failed, and took the others down.
  std::optional<std::size_t> culprit() const { return culprit_; }
  // It still ran when the time to become ready was over.
  bool culprit_was_late() const { return culprit_was_late_; }

 private:
  enum class phase { idle, running, waiting, ended };
  struct member {
    phase at = phase::idle;
    bool was_ready = false;
    time_point started;
    time_point due;  // when waiting
    duration delay{};
  };

  actions stop_all(fleet_action::kind how, time_point now);
  void start(std::size_t child, time_point now, actions& out);
  duration next_delay(member& c, time_point now) const;

  fleet_rules rules_;
  std::vector<member> children_;
  std::optional<std::size_t> culprit_;
  bool culprit_was_late_ = false;
  bool stopping_ = false;
  bool killed_ = false;
  time_point ready_deadline_;
  time_point kill_deadline_;
};

}  // namespace weft::launcher
