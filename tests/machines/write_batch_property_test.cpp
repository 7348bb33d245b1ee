// A writer among nodes that commit, refuse, stay silent or die.
#include <weft/machines/write_batch.hpp>

#include "builders.hpp"
#include "seeds.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

namespace weft::machines::test {
namespace {

enum class temper : std::uint8_t { healthy, full, silent, slow };

class world {
 public:
  explicit world(random_source& random)
      : random_(random), node_count_(random.below(7)), item_count_(random.between(1, 10)) {
    for (std::uint64_t n = 0; n < node_count_; ++n) {
      options_.storage_nodes.push_back(node(n));
      tempers_.push_back(random.percent(60) ? temper::healthy : static_cast<temper>(random.below(4)));
    }
    options_.replicas = static_cast<std::uint32_t>(random.between(1, 4));
    options_.deadline = std::chrono::seconds(1);
    std::vector<write_item> items;
    for (std::uint64_t i = 0; i < item_count_; ++i)
      items.push_back({key_of(random.below(1000)), 4096});
    batch_.emplace(items, options_);
    may_kill_ = random.percent(40);
  }

  void run() {
    carry_out(batch_->start(at_us(now_)));
    for (int steps = 0; !(batch_->finished() && mail_.empty()); ++steps) {
      REQUIRE(steps < 10'000);
      advance_clock();
      if (may_kill_ && random_.below(30) == 0 && node_count_ != 0) kill_one();
      if (const auto due = batch_->next_deadline(); due && *due <= at_us(now_)) {
        carry_out(batch_->tick(at_us(now_)));
      }
    }
    check();
  }

 private:
  static time_point at_us(std::int64_t us) { return time_point{} + std::chrono::microseconds(us); }

  void advance_clock() {
    std::int64_t next = mail_.empty() ? now_ + 1'000'000 : mail_.begin()->first;
    if (const auto due = batch_->next_deadline()) {
      const auto due_us = std::chrono::ceil<std::chrono::microseconds>(due->time_since_epoch()).count();
      next = std::min(next, due_us);
    }
    now_ = std::max(now_, next);
    if (mail_.empty() || mail_.begin()->first > now_) return;
    const auto message = std::move(mail_.begin()->second);
    mail_.erase(mail_.begin());
    message();
  }

  std::uint64_t number_of(const node_ref& ref) const { return ref.node.low - 1; }

  void kill_one() {
    const std::uint64_t n = random_.below(node_count_);
    dead_.insert(n);
    for (auto& [item, nodes] : committed_) {
      if (!done_.contains(item)) nodes.erase(n);
    }
    carry_out(batch_->on_node_down(node(n), at_us(now_)));
  }

  void carry_out(const std::vector<write_action>& actions) {
    for (const write_action& action : actions) {
      std::visit([this](const auto& a) { on(a); }, action);
    }
  }

  void on(const put_items& a) {
    const std::uint64_t n = number_of(a.node);
    REQUIRE_FALSE(dead_.contains(n));
    REQUIRE_FALSE(a.items.empty());
    REQUIRE(a.timeout > duration::zero());
    for (const std::uint32_t item : a.items) {
      REQUIRE_FALSE(done_.contains(item));
      REQUIRE(asked_.insert({item, n}).second);
    }
    std::int64_t delay = static_cast<std::int64_t>(random_.between(10, 2'000));
    if (tempers_[n] == temper::silent || tempers_[n] == temper::slow) {
      delay = static_cast<std::int64_t>(random_.between(100'000, 2'000'000));
    }
    if (random_.percent(10)) {  // while the actions behind it are still to be carried out
      report(a, n);
    } else {
      mail_.emplace(now_ + delay, [this, a, n] { report(a, n); });
    }
  }

  void report(const put_items& a, std::uint64_t n) {
    errc outcome = errc::ok;
    if (tempers_[n] == temper::full) outcome = errc::out_of_space;
    if (tempers_[n] == temper::silent || dead_.contains(n)) outcome = errc::unreachable;
    const bool last_words = dead_.contains(n) && random_.percent(50);  // committed, reported, died
    if (last_words) outcome = errc::ok;
    if (outcome == errc::ok && !last_words) {
      for (const std::uint32_t item : a.items)
        committed_[item].insert(n);
    }
    carry_out(batch_->on_put(a.call, std::vector(a.items.size(), outcome), at_us(now_)));
  }

  void on(const write_done& a) {
    REQUIRE(done_.insert(a.item).second);
    REQUIRE(now_ <= 1'000'000);
    std::set<std::uint64_t> named;
    for (const node_ref& h : a.holders) {
      REQUIRE(named.insert(number_of(h)).second);
      REQUIRE(committed_[a.item].contains(number_of(h)));
      REQUIRE_FALSE(dead_.contains(number_of(h)));
    }
    REQUIRE((a.outcome == write_outcome::stored) == (named.size() >= options_.replicas));
    REQUIRE((a.outcome == write_outcome::failed) == named.empty());
    REQUIRE((a.outcome == write_outcome::stored) == (a.why == errc::ok));
    const auto healthy =
        static_cast<std::size_t>(std::ranges::count_if(options_.storage_nodes, [&](const node_ref& h) {
          return tempers_[number_of(h)] == temper::healthy;
        }));
    // Deaths may come too late to be made up for; without them every healthy node is used if it is needed, as
    // long as silent ones leave time to.
    const bool all_answer =
        std::ranges::none_of(tempers_, [](temper t) { return t == temper::silent || t == temper::slow; });
    if (dead_.empty() && all_answer) {
      REQUIRE(named.size() >= std::min<std::size_t>(healthy, options_.replicas));
    }
  }

  void check() const { REQUIRE(done_.size() == item_count_); }

  random_source& random_;
  std::uint64_t node_count_;
  std::uint64_t item_count_;
  write_options options_;
  std::vector<temper> tempers_;
  std::optional<write_batch> batch_;
  bool may_kill_ = false;
  std::int64_t now_ = 0;  // microseconds
  std::multimap<std::int64_t, std::function<void()>> mail_;
  std::set<std::uint64_t> dead_;
  std::set<std::pair<std::uint32_t, std::uint64_t>> asked_;
  std::map<std::uint32_t, std::set<std::uint64_t>> committed_;
  std::set<std::uint32_t> done_;
};

}  // namespace

TEST_CASE("every key is done once and in time, with as many copies as could be had") {
  for_each_seed(5'000, [](random_source& random) { world(random).run(); });
}

}  // namespace weft::machines::test
