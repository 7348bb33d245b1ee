// Nodes, several of which may hold the membership, over a network that delays, loses, doubles and reorders
// messages and splits; processes stop, go on, die and start again.
#include <weft/machines/enrolment.hpp>
#include <weft/machines/membership.hpp>
#include <weft/machines/succession.hpp>

#include "builders.hpp"
#include "seeds.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <set>

namespace weft::machines::test {
namespace {

constexpr std::int64_t step_ms = 25;
constexpr std::size_t node_count = 5;
constexpr unsigned candidate_count = 3;
constexpr duration beat = std::chrono::milliseconds(250);
constexpr duration liveness = std::chrono::milliseconds(1500);

// What the node actor does with the machines, without actors.
struct process {
  enrolment enrolled;
  succession successor;
  std::optional<membership> held;
  std::int64_t stopped_until = 0;
  std::uint64_t life = 0;

  process(std::size_t n, std::uint64_t incarnation, time_point now)
      : enrolled(member_of(n, incarnation),
                 {.heartbeat_interval = beat, .lease = liveness * 9 / 10, .join_interval = beat}),
        successor(choices(n), now),
        life(incarnation) {}

  static succession_options choices(std::size_t n) {
    succession_options options;
    options.candidates = candidate_count;
    if (n < candidate_count) options.rank = static_cast<unsigned>(n);
    return options;
  }

  candidate_state state(time_point now) const {
    const auto accepted = enrolled.last_accepted();
    const bool follows = successor.role() == succession_role::following;
    return {.self = enrolled.self().ref,
            .leads = held.has_value(),
            .hears = follows && accepted && now - *accepted < 3 * beat,
            .coordinator = enrolled.current().coordinator,
            .epoch = std::max(enrolled.current().epoch, held ? held->current().epoch : 0)};
  }
};

class cluster {
 public:
  explicit cluster(random_source& random) : random_(random) {
    for (std::size_t n = 0; n < node_count; ++n)
      start(n);
  }

  void run(std::int64_t duration_ms, bool faults) {
    faults_ = faults;
    for (const std::int64_t end = now_ + duration_ms; now_ < end; now_ += step_ms) {
      if (faults) break_something();
      deliver();
      for (std::size_t n = 0; n < node_count; ++n) {
        if (up(n)) tick(n);
      }
    }
  }

  // Everybody runs and reaches everybody.
  void mend() {
    cut_off_.clear();
    for (std::size_t n = 0; n < node_count; ++n) {
      if (!nodes_[n]) start(n);
      nodes_[n]->stopped_until = now_;
    }
  }

  void check_agreement() const {
    std::size_t coordinators = 0;
    for (const auto& p : nodes_) {
      coordinators += p->held ? 1 : 0;
      CHECK(p->enrolled.state() == enrolment_state::active);
      CHECK(p->enrolled.current() == nodes_[0]->enrolled.current());
      CHECK(find(p->enrolled.current(), p->enrolled.self().ref) != nullptr);
    }
    CHECK(coordinators == 1);
    CHECK(nodes_[0]->enrolled.current().members.size() == node_count);
  }

  void kill(std::size_t n) { nodes_[n].reset(); }
  void stop(std::size_t n, std::int64_t ms) { nodes_[n]->stopped_until = now_ + ms; }
  void split(const std::set<std::size_t>& side) { cut_off_ = side; }

  bool sees(std::size_t n, std::size_t other) const {
    return find(nodes_[n]->enrolled.current(), member_of(other).name) != nullptr;
  }
  std::optional<std::size_t> coordinator_of(std::size_t n) const {
    const auto rank =
        nodes_[n]->held ? std::optional<unsigned>(static_cast<unsigned>(n)) : nodes_[n]->successor.followed();
    return rank ? std::optional<std::size_t>(*rank) : std::nullopt;
  }
  bool in_good_standing(std::size_t n) const { return nodes_[n]->enrolled.in_good_standing(at_ms(now_)); }

 private:
  bool up(std::size_t n) const { return nodes_[n] && now_ >= nodes_[n]->stopped_until; }

  void start(std::size_t n) { nodes_[n].emplace(n, ++lives_, at_ms(now_)); }

  void break_something() {
    const std::size_t n = random_.below(node_count);
    if (random_.below(200) == 0 && nodes_[n]) stop(n, ms_between(100, 5000));
    if (random_.below(300) == 0) kill(n);
    if (!nodes_[n] && random_.below(40) == 0) start(n);
    if (random_.below(400) == 0) cut_off_ = {n, random_.below(node_count)};
    if (random_.below(150) == 0) cut_off_.clear();
  }

  std::int64_t ms_between(std::uint64_t low, std::uint64_t high) {
    return static_cast<std::int64_t>(random_.between(low, high));
  }

  // Runs at the receiver, if the process that is meant still lives when it arrives.
  void post(std::size_t from, std::size_t to, std::function<void()> message) {
    if (!nodes_[to]) return;
    const bool cut = cut_off_.contains(from) != cut_off_.contains(to);
    if (from != to && (cut || (faults_ && random_.percent(5)))) return;
    const std::int64_t delay =
        from == to ? 0 : (faults_ ? ms_between(0, random_.percent(10) ? 1000 : 60) : ms_between(0, 10));
    if (faults_ && from != to && random_.percent(5))
      mail_.emplace(now_ + delay + 300, letter{to, nodes_[to]->life, message});
    mail_.emplace(now_ + delay, letter{to, nodes_[to]->life, std::move(message)});
  }

  void deliver() {
    while (!mail_.empty() && mail_.begin()->first <= now_) {
      const letter next = std::move(mail_.begin()->second);
      mail_.erase(mail_.begin());
      if (!nodes_[next.to] || nodes_[next.to]->life != next.life) continue;
      if (up(next.to)) {
        next.open();
      } else {
        mail_.emplace(nodes_[next.to]->stopped_until, next);
      }
    }
  }

  void tick(std::size_t n) {
    process& p = *nodes_[n];
    const time_point now = at_ms(now_);
    if (p.held && p.held->tick(now).view_changed) publish(n);
    act(n, p.successor.tick(p.state(now), p.enrolled.in_good_standing(now), now));
    if (p.successor.role() != succession_role::seeking) act(n, p.enrolled.tick(now));
  }

  void publish(std::size_t n) {
    const view v = nodes_[n]->held->current();
    note(v);
    for (const member& m : v.members) {
      const std::size_t to = m.ref.node.low - 1;
      post(n, to, [this, to, v] { receive(to, v); });
    }
  }

  // An epoch of a coordinator means one view, and candidates share none.
  void note(const view& v) {
    const auto [at, fresh] = published_.emplace(std::pair(v.epoch, v.coordinator.incarnation), v);
    if (!fresh) REQUIRE(at->second == v);
    REQUIRE(v.epoch % max_candidates == v.coordinator.node.low - 1);
  }

  void receive(std::size_t n, const view& v) {
    process& p = *nodes_[n];
    act(n, p.enrolled.on_view(v, at_ms(now_)));
  }

  void act(std::size_t n, const std::vector<succession_action>& actions) {
    for (const auto& action : actions) {
      process& p = *nodes_[n];
      if (const auto* ask = std::get_if<ask_candidate>(&action)) {
        post(n, ask->rank, [this, n, round = ask->round, rank = ask->rank] {
          const candidate_state answer = nodes_[rank]->state(at_ms(now_));
          post(rank, n, [this, n, round, rank, answer] {
            process& asker = *nodes_[n];
            act(n, asker.successor.on_answer(round, rank, answer, asker.state(at_ms(now_)), at_ms(now_)));
          });
        });
      } else if (const auto* take = std::get_if<lead>(&action)) {
        take_over(n, take->lost_is_dead);
      } else if (std::holds_alternative<step_down>(action)) {
        p.held.reset();
      } else {
        p.enrolled.on_connection_lost();
      }
    }
  }

  void take_over(std::size_t n, bool lost_is_dead) {
    process& p = *nodes_[n];
    membership_options options;
    options.liveness_timeout = liveness;
    options.longest_pause = beat;
    options.coordinator = p.enrolled.self().ref;
    options.epoch_step = max_candidates;
    options.epoch_remainder = n;
    view inherited = p.enrolled.current();
    if (lost_is_dead)
      std::erase_if(inherited.members, [&](const member& m) { return m.ref == inherited.coordinator; });
    if (inherited.epoch == 0) {
      p.held.emplace(options, at_ms(now_));
    } else {
      p.held.emplace(options, inherited, at_ms(now_));
      publish(n);
    }
    p.enrolled.on_connection_lost();
  }

  void act(std::size_t n, const std::vector<enrolment_action>& actions) {
    for (const auto& action : actions) {
      if (const auto* join = std::get_if<send_join>(&action)) {
        ask_coordinator(n, join->ticket, [join = *join](membership& m, time_point now) {
          return m.join(join.who, join.known_epoch, now, join.known_from);
        });
      } else if (const auto* sent = std::get_if<send_heartbeat>(&action)) {
        ask_coordinator(n, sent->ticket, [sent = *sent](membership& m, time_point now) {
          return m.heartbeat(sent.from, sent.known_epoch, now, sent.known_from);
        });
      } else if (std::holds_alternative<adopted_view>(action)) {
        const view& v = nodes_[n]->enrolled.current();
        note(v);
        act(n,
            nodes_[n]->successor.on_view_of(static_cast<unsigned>(v.coordinator.node.low - 1), at_ms(now_)));
      } else if (std::holds_alternative<lost_coordinator>(action)) {
        process& p = *nodes_[n];
        act(n, p.successor.on_coordinator_lost(p.state(at_ms(now_)), at_ms(now_)));
      }
    }
  }

  void ask_coordinator(std::size_t n, std::uint64_t ticket,
                       std::function<membership_answer(membership&, time_point)> question) {
    const auto to = coordinator_of(n);
    if (!to) return;
    post(n, *to, [this, n, to = *to, ticket, question] {
      membership_answer answer{.verdict = standing::not_coordinator};
      view v;
      if (auto& held = nodes_[to]->held) {
        answer = question(*held, at_ms(now_));
        if (answer.send_view) v = held->current();
        if (answer.view_changed) publish(to);
      }
      post(to, n, [this, n, ticket, answer, v] {
        act(n, nodes_[n]->enrolled.on_answer(ticket, answer, at_ms(now_)));
        if (v.epoch != 0) receive(n, v);
      });
    });
  }

  struct letter {
    std::size_t to;
    std::uint64_t life;
    std::function<void()> open;
  };

  random_source& random_;
  std::int64_t now_ = 0;
  bool faults_ = false;
  std::uint64_t lives_ = 0;
  std::array<std::optional<process>, node_count> nodes_;
  std::set<std::size_t> cut_off_;  // from the others
  std::multimap<std::int64_t, letter> mail_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, view> published_;
};

}  // namespace

TEST_CASE("whatever goes wrong, one coordinator is left and all agree once faults end") {
  for_each_seed(300, [](random_source& random) {
    cluster c(random);
    c.run(20'000, true);
    c.mend();
    c.run(15'000, false);
    c.check_agreement();
  });
}

TEST_CASE("the next of the file takes over within the time that a frozen node has") {
  for_each_seed(20, [](random_source& random) {
    cluster c(random);
    c.run(10'000, false);
    REQUIRE(c.coordinator_of(4) == 0U);
    c.stop(0, 10'000);
    c.run(2'000, false);
    CHECK(c.coordinator_of(4) == 1U);
    CHECK(c.in_good_standing(4));
    CHECK_FALSE(c.sees(4, 0));
    c.kill(1);
    c.run(2'000, false);
    CHECK(c.coordinator_of(4) == 2U);
    c.mend();
    c.run(15'000, false);
    c.check_agreement();
    CHECK(c.coordinator_of(0) == 2U);
  });
}

TEST_CASE("both sides of a split go on and merge when it heals") {
  for_each_seed(20, [](random_source& random) {
    cluster c(random);
    c.run(10'000, false);
    c.split({0, 3});
    c.run(6'000, false);
    CHECK(c.sees(0, 3));
    CHECK_FALSE(c.sees(0, 1));
    CHECK(c.sees(1, 4));
    CHECK_FALSE(c.sees(1, 3));
    c.mend();
    c.run(15'000, false);
    c.check_agreement();
  });
}

}  // namespace weft::machines::test
