#include <weft/launcher/fleet.hpp>

#include <doctest/doctest.h>

using namespace weft::launcher;
using namespace std::chrono_literals;
using kind = fleet_action::kind;

namespace {

const weft::time_point origin{};

bool is(const fleet::actions& actions, std::vector<std::pair<kind, std::size_t>> expected) {
  if (actions.size() != expected.size()) return false;
  for (std::size_t i = 0; i < actions.size(); ++i) {
    if (actions[i].what != expected[i].first || actions[i].child != expected[i].second) return false;
  }
  return true;
}

fleet running_fleet(std::size_t children) {
  fleet f(children, {});
  f.begin(origin);
  for (std::size_t i = 0; i < children; ++i)
    f.ready(i);
  return f;
}

}  // namespace

TEST_CASE("all children start at once, and are ready when each has said so") {
  fleet f(2, {});
  CHECK(is(f.begin(origin), {{kind::start, 0}, {kind::start, 1}}));
  CHECK_FALSE(f.all_ready());
  f.ready(1);
  CHECK_FALSE(f.all_ready());
  f.ready(0);
  CHECK(f.all_ready());
  CHECK_FALSE(f.next_deadline());
}

TEST_CASE("a child that dies is started again, later each time") {
  auto f = running_fleet(1);
  auto now = origin;
  for (const auto delay : {250ms, 500ms, 1000ms, 2000ms, 4000ms, 8000ms, 8000ms}) {
    CHECK(f.ended(0, child_end::killed, now).empty());
    CHECK(f.next_deadline() == now + delay);
    CHECK(f.restart_of(0) == now + delay);
    CHECK(f.tick(now + delay - 1ms).empty());
    now += delay;
    CHECK(is(f.tick(now), {{kind::start, 0}}));
    CHECK(f.tick(now).empty());
  }
}

TEST_CASE("a child that ran well for a while is started again soon") {
  auto f = running_fleet(1);
  f.ended(0, child_end::failed, origin);
  f.tick(origin + 250ms);
  f.ended(0, child_end::failed, origin + 300ms);
  CHECK(f.restart_of(0) == origin + 800ms);
  f.tick(origin + 800ms);
  f.ended(0, child_end::failed, origin + 20s);
  CHECK(f.restart_of(0) == origin + 20s + 250ms);
}

TEST_CASE("a child that left by its own wish is let go") {
  auto f = running_fleet(2);
  CHECK(f.ended(0, child_end::done, origin + 1s).empty());
  CHECK_FALSE(f.restart_of(0));
  CHECK_FALSE(f.finished());
  f.ended(1, child_end::done, origin + 1s);
  CHECK(f.finished());
  CHECK_FALSE(f.culprit());
}

TEST_CASE("a child that fails at its start takes the others down") {
  fleet f(3, {});
  f.begin(origin);
  f.ready(0);
  CHECK(is(f.ended(1, child_end::failed, origin + 1s), {{kind::terminate, 0}, {kind::terminate, 2}}));
  CHECK(f.culprit() == 1);
  f.ended(0, child_end::done, origin + 2s);
  f.ended(2, child_end::killed, origin + 2s);
  CHECK(f.finished());
}

TEST_CASE("a child killed from outside at its start is started again") {
  fleet f(1, {});
  f.begin(origin);
  CHECK(f.ended(0, child_end::killed, origin).empty());
  CHECK(f.restart_of(0) == origin + 250ms);
  CHECK_FALSE(f.culprit());
}

TEST_CASE("a child that is never ready takes the others down at the deadline") {
  fleet f(2, {});
  f.begin(origin);
  f.ready(0);
  CHECK(f.next_deadline() == origin + 120s);
  CHECK(f.tick(origin + 119s).empty());
  CHECK_FALSE(f.culprit_was_late());
  CHECK(is(f.tick(origin + 120s), {{kind::terminate, 0}, {kind::terminate, 1}}));
  CHECK(f.culprit() == 1);
  CHECK(f.culprit_was_late());
}

TEST_CASE("asked to stop: terminate, and kill those who do not listen") {
  auto f = running_fleet(2);
  CHECK(is(f.stop(origin), {{kind::terminate, 0}, {kind::terminate, 1}}));
  f.ended(0, child_end::done, origin + 1s);
  CHECK_FALSE(f.finished());
  CHECK(f.next_deadline() == origin + 10s);
  CHECK(is(f.tick(origin + 10s), {{kind::kill, 1}}));
  CHECK_FALSE(f.next_deadline());
  CHECK(f.tick(origin + 11s).empty());
  f.ended(1, child_end::killed, origin + 11s);
  CHECK(f.finished());
  CHECK_FALSE(f.culprit());
}

TEST_CASE("asked to stop twice: kill at once") {
  auto f = running_fleet(1);
  f.stop(origin);
  CHECK(is(f.stop(origin + 1ms), {{kind::kill, 0}}));
}

TEST_CASE("what waits to be started again is not, once asked to stop") {
  auto f = running_fleet(1);
  f.ended(0, child_end::killed, origin);
  CHECK(f.stop(origin).empty());
  CHECK(f.finished());
  CHECK(f.tick(origin + 1min).empty());
}
