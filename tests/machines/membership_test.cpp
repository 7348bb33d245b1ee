#include <weft/machines/membership.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::machines::test {
namespace {

const membership_options options{.liveness_timeout = std::chrono::milliseconds(2000),
                                 .longest_pause = std::chrono::milliseconds(500)};

// Calls `tick` often enough for the coordinator to count as well.
std::vector<node_ref> run_until(membership& m, std::int64_t from_ms, std::int64_t to_ms) {
  std::vector<node_ref> dead;
  for (std::int64_t ms = from_ms; ms <= to_ms; ms += 250) {
    for (const node_ref& n : m.tick(at_ms(ms)).dead)
      dead.push_back(n);
  }
  return dead;
}

}  // namespace

TEST_CASE("every join makes a new epoch, the same join again does not") {
  membership m(options, at_ms(0));
  const membership_answer first = m.join(member_of(1), 0, at_ms(0));
  CHECK(first.verdict == standing::accepted);
  CHECK(first.view_changed);
  CHECK(first.send_view);
  const std::uint64_t epoch = m.current().epoch;
  m.join(member_of(0), 0, at_ms(1));
  CHECK(m.current().epoch == epoch + 1);
  CHECK(m.current().members.front().name == "node-0");

  const membership_answer again = m.join(member_of(0), epoch + 1, at_ms(2));
  CHECK(again.verdict == standing::accepted);
  CHECK_FALSE(again.view_changed);
  CHECK_FALSE(again.send_view);
  CHECK(m.current().epoch == epoch + 1);
}

TEST_CASE("a silent member is declared dead and its life is over") {
  membership m(options, at_ms(0));
  m.join(member_of(0), 0, at_ms(0));
  m.join(member_of(1), 0, at_ms(0));
  for (std::int64_t ms = 250; ms <= 3000; ms += 250) {
    m.heartbeat(node(0), m.current().epoch, at_ms(ms));
    const membership_changes changes = m.tick(at_ms(ms));
    if (ms < 2000) CHECK(changes.dead.empty());
    if (ms == 2000) {
      CHECK(changes.dead == std::vector{node(1)});
      CHECK(changes.view_changed);
    }
  }
  CHECK(m.current().members.size() == 1);

  const membership_answer late = m.heartbeat(node(1), 2, at_ms(3001));
  CHECK(late.verdict == standing::fenced);
  CHECK(late.incarnation_floor == 2);
  CHECK(m.join(member_of(1, 1), 2, at_ms(3002)).verdict == standing::fenced);
  CHECK(m.join(member_of(1, 2), 2, at_ms(3003)).verdict == standing::accepted);
  CHECK(m.heartbeat(node(1, 1), 2, at_ms(3004)).verdict == standing::fenced);
}

TEST_CASE("a later life replaces a live one, an equal one under another id does not") {
  membership m(options, at_ms(0));
  m.join(member_of(0, 4), 0, at_ms(0));
  member impostor = member_of(0, 4);
  impostor.ref.node = node(9).node;
  CHECK(m.join(impostor, 0, at_ms(1)).verdict == standing::fenced);
  impostor.ref.incarnation = 5;
  CHECK(m.join(impostor, 0, at_ms(2)).verdict == standing::accepted);
  CHECK(m.current().members.size() == 1);
  CHECK(m.current().members[0].ref == impostor.ref);
}

TEST_CASE("a node that changed its name leaves no former self behind") {
  membership m(options, at_ms(0));
  m.join(member_of(0, 1), 0, at_ms(0));
  member renamed = member_of(0, 1);
  renamed.name = "other";
  CHECK(m.join(renamed, 0, at_ms(1)).verdict == standing::fenced);
  renamed.ref.incarnation = 2;
  CHECK(m.join(renamed, 0, at_ms(2)).verdict == standing::accepted);
  CHECK(m.current().members.size() == 1);
  CHECK(m.current().members[0].name == "other");
}

TEST_CASE("a farewell ends the life at once") {
  membership m(options, at_ms(0));
  m.join(member_of(0), 0, at_ms(0));
  CHECK_FALSE(m.leave(node(0, 7), at_ms(1)));
  CHECK(m.leave(node(0), at_ms(1)));
  CHECK(m.current().members.empty());
  CHECK(m.heartbeat(node(0), 1, at_ms(2)).verdict == standing::fenced);
}

TEST_CASE("an unknown node is told to join") {
  membership m(options, at_ms(0));
  CHECK(m.heartbeat(node(0), 0, at_ms(1)).verdict == standing::unknown);
  m.join(member_of(0, 1), 0, at_ms(2));
  CHECK(m.heartbeat(node(0, 2), 0, at_ms(3)).verdict == standing::unknown);
}

TEST_CASE("a coordinator that takes over starts above the epochs of its joiners and waits for the others") {
  membership m(options, at_ms(0));
  const membership_answer first = m.join(member_of(0), 41, at_ms(100));
  CHECK(first.verdict == standing::accepted);
  CHECK(m.current().epoch > 41);
  CHECK_FALSE(first.view_changed);
  CHECK_FALSE(first.send_view);
  CHECK_FALSE(m.join(member_of(1), 41, at_ms(700)).view_changed);
  for (std::int64_t ms = 750; ms < 2000; ms += 250) {
    m.heartbeat(node(0), 41, at_ms(ms));
    m.heartbeat(node(1), 41, at_ms(ms));
    CHECK_FALSE(m.tick(at_ms(ms)).view_changed);
  }
  CHECK(m.tick(at_ms(2000)).view_changed);
  CHECK(m.heartbeat(node(0), 41, at_ms(2001)).send_view);
  CHECK(m.current().members.size() == 2);
}

TEST_CASE("the coordinator's own pause is not the others' silence") {
  membership m(options, at_ms(0));
  m.join(member_of(0), 0, at_ms(0));
  CHECK(m.tick(at_ms(60'000)).dead.empty());  // was stopped for a minute
  CHECK(run_until(m, 60'250, 63'000) == std::vector{node(0)});
}

TEST_CASE("the next deadline is when the first member falls silent") {
  membership m(options, at_ms(0));
  CHECK_FALSE(m.next_deadline());
  m.join(member_of(0), 0, at_ms(0));
  m.join(member_of(1), 0, at_ms(300));
  CHECK(m.next_deadline() == at_ms(2000));
  m.heartbeat(node(0), 0, at_ms(400));
  CHECK(m.next_deadline() == at_ms(2300));
}

TEST_CASE("the same life under another address makes a new view") {
  membership m(options, at_ms(0));
  m.join(member_of(0), 0, at_ms(0));
  member moved = member_of(0);
  moved.control_port = 9999;
  CHECK(m.join(moved, 1, at_ms(1)).view_changed);
  CHECK(m.current().members[0].control_port == 9999);
}

TEST_CASE("a successor starts from the view that it inherits") {
  membership_options second = options;
  second.coordinator = node(1);
  const view before{.epoch = 41, .members = {member_of(1), member_of(2)}};
  membership m(second, before, at_ms(100));
  CHECK(m.current().epoch == 42);
  CHECK(m.current().members == before.members);
  CHECK(m.current().coordinator == node(1));
  const membership_answer beat = m.heartbeat(node(2), 41, at_ms(200));
  CHECK(beat.verdict == standing::accepted);
  CHECK(beat.send_view);
  CHECK(m.heartbeat(node(0), 41, at_ms(201)).verdict == standing::unknown);
  CHECK(run_until(m, 250, 2000).empty());
  CHECK(run_until(m, 2250, 2250) == std::vector{node(1), node(2)});

  SUBCASE("and publishes at once also above a later epoch than it inherited") {
    membership late(second, before, at_ms(100));
    CHECK(late.join(member_of(3), 60, at_ms(110)).view_changed);
    CHECK(late.current().epoch > 60);
    CHECK(late.current().members.size() == 3);
  }
}

TEST_CASE("coordinators share no epoch") {
  membership_options second = options;
  second.epoch_step = 16;
  second.epoch_remainder = 3;
  for (std::uint64_t epoch = 1; epoch < 40; ++epoch) {
    membership m(second, view{.epoch = epoch, .members = {}}, at_ms(0));
    CHECK(m.current().epoch % 16 == 3);
    CHECK(m.current().epoch > epoch);
    CHECK(m.current().epoch <= epoch + 16);
    m.join(member_of(0), 0, at_ms(1));
    CHECK(m.current().epoch % 16 == 3);
    m.join(member_of(1), epoch + 100, at_ms(1));
    CHECK(m.current().epoch % 16 == 3);
    CHECK(m.current().epoch > epoch + 100);
  }
}

TEST_CASE("the same epoch of another coordinator is another view") {
  membership_options own = options;
  own.coordinator = node(0, 2);
  membership m(own, at_ms(0));
  m.join(member_of(1), 0, at_ms(0));
  const std::uint64_t epoch = m.current().epoch;
  CHECK_FALSE(m.heartbeat(node(1), epoch, at_ms(1), node(0, 2)).send_view);
  CHECK(m.current().epoch == epoch);
  m.heartbeat(node(1), epoch, at_ms(2), node(0, 1));
  CHECK(m.current().epoch > epoch);
}

TEST_CASE("a suspect has less time to speak up") {
  membership m(options, at_ms(0));
  m.join(member_of(0), 0, at_ms(0));
  m.join(member_of(1), 0, at_ms(0));
  m.suspect(node(0), at_ms(0));
  m.suspect(node(1), at_ms(0));
  m.suspect(node(1, 2), at_ms(0));  // of a life that is not known, nothing is held against it
  CHECK(run_until(m, 250, 500).empty());
  m.heartbeat(node(1), 0, at_ms(510));
  CHECK(run_until(m, 750, 750) == std::vector{node(0)});
  CHECK(run_until(m, 1000, 2250).empty());
}

}  // namespace weft::machines::test
