#include <weft/machines/succession.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::machines::test {
namespace {

succession_options among(unsigned candidates, std::optional<unsigned> rank) {
  succession_options options;
  options.candidates = candidates;
  options.rank = rank;
  return options;
}

// A candidate that has lost its coordinator, node 0, and knows that epoch.
candidate_state lost(std::uint64_t n, std::uint64_t epoch) {
  return {.self = node(n), .coordinator = node(0), .epoch = epoch};
}

candidate_state leading(std::uint64_t n, std::uint64_t epoch) {
  return {.self = node(n), .leads = true, .coordinator = node(n), .epoch = epoch};
}

candidate_state hearing(std::uint64_t n, std::uint64_t whom, std::uint64_t epoch) {
  return {.self = node(n), .hears = true, .coordinator = node(whom), .epoch = epoch};
}

std::vector<unsigned> followed(const std::vector<succession_action>& actions) {
  std::vector<unsigned> ranks;
  for (const auto& f : only<follow>(actions))
    ranks.push_back(f.rank);
  return ranks;
}

// Node 1 of three, which has followed node 0 and lost it just now.
struct second_of_three {
  succession s{among(3, 1), at_ms(0)};
  candidate_state own = lost(1, 40);
  std::uint64_t round = 0;

  second_of_three() {
    s.on_view_of(0, at_ms(900));
    const auto asks = only<ask_candidate>(s.on_coordinator_lost(own, at_ms(1000)));
    REQUIRE(asks.size() == 2);
    CHECK(asks[0].rank == 0);
    CHECK(asks[1].rank == 2);
    round = asks[0].round;
  }
};

}  // namespace

TEST_CASE("the first in rank gives those a little time that are there and were not heard") {
  auto options = among(3, 0);
  options.first_patience = std::chrono::milliseconds(1000);
  succession s(options, at_ms(0));
  const candidate_state own{.self = node(0)};
  const auto asks = only<ask_candidate>(s.tick(own, false, at_ms(0)));
  REQUIRE(asks.size() == 2);
  CHECK(s.on_no_answer(asks[0].round, 1, own, at_ms(1)).empty());
  CHECK(only<lead>(s.tick(own, false, at_ms(200))).empty());
  SUBCASE("one of them leads") {
    const auto again = only<ask_candidate>(s.tick(own, false, at_ms(300)));
    REQUIRE(again.size() == 2);
    s.on_no_answer(again[0].round, 1, own, at_ms(301));
    CHECK(followed(s.on_answer(again[0].round, 2, leading(2, 40), own, at_ms(400))) == std::vector{2U});
  }
  SUBCASE("none comes") {
    s.tick(own, false, at_ms(900));
    CHECK(only<lead>(s.tick(own, false, at_ms(1100))).size() == 1);
  }
  SUBCASE("all have said that they do not lead") {
    const auto again = only<ask_candidate>(s.tick(own, false, at_ms(300)));
    s.on_answer(again[0].round, 1, {.self = node(1)}, own, at_ms(301));
    CHECK(only<lead>(s.on_answer(again[0].round, 2, {.self = node(2)}, own, at_ms(302))).size() == 1);
  }
}

TEST_CASE("a candidate alone leads at once") {
  succession s(among(1, 0), at_ms(0));
  const auto actions = s.tick({.self = node(0)}, false, at_ms(0));
  CHECK(only<lead>(actions).size() == 1);
  CHECK(s.role() == succession_role::leading);
}

TEST_CASE("at the start the first candidate does not wait, the others give it time") {
  succession first(among(2, 0), at_ms(0));
  const auto asks = only<ask_candidate>(first.tick({.self = node(0)}, false, at_ms(0)));
  REQUIRE(asks.size() == 1);
  CHECK(only<lead>(first.on_no_answer(asks[0].round, 1, {.self = node(0)}, at_ms(1))).size() == 1);

  succession second(among(2, 1), at_ms(0));
  const candidate_state own{.self = node(1)};
  for (std::int64_t ms = 0; ms < 6000; ms += 100) {
    for (const auto& ask : only<ask_candidate>(second.tick(own, false, at_ms(ms))))
      CHECK(second.on_no_answer(ask.round, 0, own, at_ms(ms)).empty());
  }
  const auto last = only<ask_candidate>(second.tick(own, false, at_ms(6000)));
  REQUIRE(last.size() == 1);
  CHECK(only<lead>(second.on_no_answer(last[0].round, 0, own, at_ms(6000))).size() == 1);
}

TEST_CASE("the next candidate takes over from a dead coordinator") {
  second_of_three two;
  CHECK(two.s.on_no_answer(two.round, 0, two.own, at_ms(1001)).empty());
  const auto leads = only<lead>(two.s.on_answer(two.round, 2, lost(2, 40), two.own, at_ms(1002)));
  REQUIRE(leads.size() == 1);
  CHECK(leads[0].lost_is_dead);
}

TEST_CASE("who answered nothing by the end of the round is not waited for") {
  second_of_three two;
  CHECK(two.s.tick(two.own, false, at_ms(1199)).empty());
  CHECK(only<lead>(two.s.tick(two.own, false, at_ms(1200))).size() == 1);
}

TEST_CASE("a coordinator that stepped down is not taken for dead") {
  second_of_three two;
  two.s.on_answer(two.round, 2, lost(2, 33), two.own, at_ms(1001));
  candidate_state former = lost(0, 40);
  former.epoch = 39;
  const auto leads = only<lead>(two.s.on_answer(two.round, 0, former, two.own, at_ms(1002)));
  REQUIRE(leads.size() == 1);
  CHECK_FALSE(leads[0].lost_is_dead);
}

TEST_CASE("where another still hears the coordinator nobody takes over") {
  second_of_three two;
  two.s.on_no_answer(two.round, 0, two.own, at_ms(1001));
  CHECK(two.s.on_answer(two.round, 2, hearing(2, 0, 40), two.own, at_ms(1002)).empty());
  CHECK(two.s.tick(two.own, false, at_ms(1050)).empty());
  CHECK(only<ask_candidate>(two.s.tick(two.own, false, at_ms(1102))).size() == 2);

  SUBCASE("but of its own former life nobody hears") {
    const auto round = two.round + 1;
    two.s.on_no_answer(round, 0, two.own, at_ms(1103));
    CHECK(only<lead>(two.s.on_answer(round, 2, hearing(2, 1, 40), two.own, at_ms(1103))).size() == 1);
  }
}

TEST_CASE("the latest view counts more than the rank") {
  second_of_three two;
  two.s.on_no_answer(two.round, 0, two.own, at_ms(1001));
  CHECK(two.s.on_answer(two.round, 2, lost(2, 41), two.own, at_ms(1002)).empty());
  CHECK(two.s.role() == succession_role::seeking);
}

TEST_CASE("a coordinator that was restarted does not lead those who know more") {
  succession s(among(2, 0), at_ms(0));
  const candidate_state own{.self = node(0, 2)};
  const auto asks = only<ask_candidate>(s.tick(own, false, at_ms(0)));
  CHECK(s.on_answer(asks[0].round, 1, lost(1, 40), own, at_ms(1)).empty());
  const auto again = only<ask_candidate>(s.tick(own, false, at_ms(200)));
  REQUIRE(again.size() == 1);
  CHECK(followed(s.on_answer(again[0].round, 1, leading(1, 42), own, at_ms(201))) == std::vector{1U});
}

TEST_CASE("of two coordinators the one with the lower epoch steps down") {
  second_of_three two;
  two.s.tick(two.own, false, at_ms(1200));
  REQUIRE(two.s.role() == succession_role::leading);
  const candidate_state own = leading(1, 42);
  const auto asks = only<ask_candidate>(two.s.tick(own, false, at_ms(1700)));
  REQUIRE(asks.size() == 2);
  two.s.on_no_answer(asks[0].round, 0, own, at_ms(1701));

  SUBCASE("the other is older") {
    CHECK(two.s.on_answer(asks[0].round, 2, leading(2, 41), own, at_ms(1702)).empty());
    CHECK(two.s.role() == succession_role::leading);
  }
  SUBCASE("the other is newer") {
    const auto actions = two.s.on_answer(asks[0].round, 2, leading(2, 51), own, at_ms(1702));
    CHECK(only<step_down>(actions).size() == 1);
    CHECK(followed(actions) == std::vector{2U});
  }
}

TEST_CASE("a later view of another coordinator deposes one") {
  second_of_three two;
  two.s.tick(two.own, false, at_ms(1200));
  const auto actions = two.s.on_view_of(2, at_ms(900));
  CHECK(only<step_down>(actions).size() == 1);
  CHECK(followed(actions) == std::vector{2U});
  CHECK(two.s.on_view_of(2, at_ms(900)).empty());
}

TEST_CASE("late, repeated and made-up answers change nothing") {
  second_of_three two;
  CHECK(two.s.on_answer(two.round - 1, 2, leading(2, 90), two.own, at_ms(1001)).empty());
  CHECK(two.s.on_answer(two.round, 1, leading(1, 90), two.own, at_ms(1001)).empty());
  CHECK(two.s.on_answer(two.round, 9, leading(9, 90), two.own, at_ms(1001)).empty());
  two.s.on_answer(two.round, 2, lost(2, 1), two.own, at_ms(1001));
  CHECK(two.s.on_answer(two.round, 2, leading(2, 90), two.own, at_ms(1002)).empty());
  CHECK(two.s.role() == succession_role::seeking);
}

TEST_CASE("a node that is no candidate only follows") {
  succession s(among(2, std::nullopt), at_ms(0));
  const candidate_state own = lost(7, 50);
  const auto asks = only<ask_candidate>(s.tick(own, false, at_ms(0)));
  REQUIRE(asks.size() == 2);
  CHECK(s.tick(own, false, at_ms(200)).empty());
  const auto again = only<ask_candidate>(s.tick(own, false, at_ms(300)));
  REQUIRE(again.size() == 2);
  s.on_answer(again[0].round, 0, leading(0, 20), own, at_ms(301));
  CHECK(followed(s.on_answer(again[0].round, 1, leading(1, 30), own, at_ms(302))) == std::vector{1U});
}

}  // namespace weft::machines::test
