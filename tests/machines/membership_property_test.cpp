// Coordinator and nodes over a network that delays, loses and doubles messages; nodes and coordinator stop
// and go on, and the coordinator is replaced.
#include <weft/machines/enrolment.hpp>
#include <weft/machines/membership.hpp>

#include "builders.hpp"
#include "seeds.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

namespace weft::machines::test {
namespace {

constexpr std::int64_t step_ms = 50;
constexpr std::size_t node_count = 5;

class cluster {
 public:
  explicit cluster(random_source& random) : random_(random) {
    restart_coordinator();
    for (std::size_t n = 0; n < node_count; ++n)
      nodes_.emplace_back(member_of(n), enrolment_options{});
    stopped_until_.assign(node_count, 0);
  }

  void run(std::int64_t duration_ms, bool faults) {
    faults_ = faults;
    if (!faults) {
      coordinator_stopped_until_ = now_;
      std::ranges::fill(stopped_until_, now_);
    }
    for (const std::int64_t end = now_ + duration_ms; now_ < end; now_ += step_ms) {
      if (faults) break_something();
      deliver();
      if (now_ >= coordinator_stopped_until_) tick_coordinator();
      for (std::size_t n = 0; n < node_count; ++n) {
        if (now_ >= stopped_until_[n]) act(n, nodes_[n].tick(at_ms(now_)));
      }
      check_leases();
    }
  }

  void check_agreement() const {
    for (const enrolment& e : nodes_) {
      CHECK(e.state() == enrolment_state::active);
      CHECK(e.current() == coordinator_->current());
      CHECK(find(e.current(), e.self().ref) != nullptr);
    }
  }

 private:
  void restart_coordinator() {
    coordinator_ = std::make_unique<membership>(membership_options{}, at_ms(now_));
    dead_.clear();
    last_epoch_ = 0;
  }

  void break_something() {
    if (random_.percent(1)) stopped_until_[random_.below(node_count)] = now_ + ms_between(100, 6000);
    if (random_.below(400) == 0) coordinator_stopped_until_ = now_ + ms_between(100, 5000);
    if (random_.below(600) == 0) restart_coordinator();
  }

  std::int64_t ms_between(std::uint64_t low, std::uint64_t high) {
    return static_cast<std::int64_t>(random_.between(low, high));
  }

  void tick_coordinator() {
    for (const node_ref& n : coordinator_->tick(at_ms(now_)).dead)
      dead_.insert(n);
    REQUIRE(coordinator_->current().epoch >= last_epoch_);
    last_epoch_ = coordinator_->current().epoch;
  }

  void post(std::function<void()> message) {
    if (faults_ && random_.percent(10)) return;
    const std::int64_t delay = faults_ ? ms_between(0, random_.percent(10) ? 3000 : 100) : 10;
    if (faults_ && random_.percent(5)) mail_.emplace(now_ + delay + 500, message);
    mail_.emplace(now_ + delay, std::move(message));
  }

  void deliver() {
    while (!mail_.empty() && mail_.begin()->first <= now_) {
      const auto message = std::move(mail_.begin()->second);
      mail_.erase(mail_.begin());
      message();
    }
  }

  void act(std::size_t n, const std::vector<enrolment_action>& actions) {
    for (const auto& join : only<send_join>(actions)) {
      post([this, n, join] {
        at_coordinator([this, n, join] {
          reply(n, join.ticket, coordinator_->join(join.who, join.known_epoch, at_ms(now_)));
        });
      });
    }
    for (const auto& beat : only<send_heartbeat>(actions)) {
      post([this, n, beat] {
        at_coordinator([this, n, beat] {
          reply(n, beat.ticket, coordinator_->heartbeat(beat.from, beat.known_epoch, at_ms(now_)));
        });
      });
    }
    for (const auto& change : only<adopted_view>(actions)) {
      REQUIRE(nodes_[n].current().epoch > adopted_epoch_[n]);
      adopted_epoch_[n] = nodes_[n].current().epoch;
      static_cast<void>(change);
    }
    for (const auto& fenced : only<became_fenced>(actions)) {
      REQUIRE(fenced.next.incarnation > fenced.former.incarnation);
    }
  }

  // A stopped process gets its mail when it goes on.
  void at_coordinator(std::function<void()> message) {
    if (now_ < coordinator_stopped_until_) {
      mail_.emplace(coordinator_stopped_until_, std::move(message));
    } else {
      message();
    }
  }

  void reply(std::size_t n, std::uint64_t ticket, const membership_answer& answer) {
    const view v = answer.send_view ? coordinator_->current() : view{};
    post([this, n, ticket, answer, v] { at_node(n, ticket, answer, v); });
  }

  void at_node(std::size_t n, std::uint64_t ticket, const membership_answer& answer, const view& v) {
    if (now_ < stopped_until_[n]) {
      mail_.emplace(stopped_until_[n], [=, this] { at_node(n, ticket, answer, v); });
      return;
    }
    act(n, nodes_[n].on_answer(ticket, answer, at_ms(now_)));
    act(n, nodes_[n].on_view(v, at_ms(now_)));
  }

  // What the whole protocol is for.
  void check_leases() const {
    for (const enrolment& e : nodes_) {
      if (e.in_good_standing(at_ms(now_))) REQUIRE_FALSE(dead_.contains(e.self().ref));
    }
  }

  random_source& random_;
  std::int64_t now_ = 0;
  bool faults_ = false;
  std::unique_ptr<membership> coordinator_;
  std::vector<enrolment> nodes_;
  std::vector<std::int64_t> stopped_until_;
  std::int64_t coordinator_stopped_until_ = 0;
  std::multimap<std::int64_t, std::function<void()>> mail_;
  std::set<node_ref> dead_;       // by the present coordinator
  std::uint64_t last_epoch_ = 0;  // of the present coordinator
  std::map<std::size_t, std::uint64_t> adopted_epoch_;
};

}  // namespace

TEST_CASE("no node that was declared dead believes in its lease, and all agree once faults end") {
  for_each_seed(300, [](random_source& random) {
    cluster c(random);
    c.run(20'000, true);
    c.run(10'000, false);
    c.check_agreement();
  });
}

}  // namespace weft::machines::test
