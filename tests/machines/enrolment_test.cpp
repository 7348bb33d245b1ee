#include <weft/machines/enrolment.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

namespace weft::machines::test {
namespace {

const enrolment_options options{.heartbeat_interval = std::chrono::milliseconds(500),
                                .lease = std::chrono::milliseconds(1800),
                                .join_interval = std::chrono::milliseconds(400)};

const membership_answer accepted{.verdict = standing::accepted};

enrolment joined_at(std::int64_t ms) {
  enrolment e(member_of(0), options);
  const auto join = only<send_join>(e.tick(at_ms(ms)));
  REQUIRE(join.size() == 1);
  REQUIRE(only<became_active>(e.on_answer(join[0].ticket, accepted, at_ms(ms))).size() == 1);
  return e;
}

}  // namespace

TEST_CASE("a node asks to join until it is accepted, then beats") {
  enrolment e(member_of(0), options);
  const auto first = only<send_join>(e.tick(at_ms(0)));
  REQUIRE(first.size() == 1);
  CHECK(first[0].who.ref == node(0));
  CHECK(e.tick(at_ms(399)).empty());
  const auto second = only<send_join>(e.tick(at_ms(400)));
  REQUIRE(second.size() == 1);
  CHECK_FALSE(e.in_good_standing(at_ms(400)));

  CHECK(only<became_active>(e.on_answer(second[0].ticket, accepted, at_ms(410))).size() == 1);
  CHECK(e.in_good_standing(at_ms(410)));
  CHECK(only<send_heartbeat>(e.tick(at_ms(910))).size() == 1);
}

TEST_CASE("the lease runs from the sending, not from the answer") {
  enrolment e(member_of(0), options);
  const auto join = only<send_join>(e.tick(at_ms(0)));
  e.on_answer(join[0].ticket, accepted, at_ms(1000));
  CHECK(e.in_good_standing(at_ms(1799)));
  CHECK_FALSE(e.in_good_standing(at_ms(1800)));
}

TEST_CASE("a node that was stopped knows without being told that its lease ran out") {
  enrolment e = joined_at(0);
  CHECK_FALSE(e.in_good_standing(at_ms(30'000)));  // before any tick
  const auto actions = e.tick(at_ms(30'000));
  CHECK(only<became_isolated>(actions).size() == 1);
  const auto beat = only<send_heartbeat>(actions);
  REQUIRE(beat.size() == 1);

  SUBCASE("nobody missed it") {
    CHECK(only<became_active>(e.on_answer(beat[0].ticket, accepted, at_ms(30'001))).size() == 1);
    CHECK(e.self().ref == node(0));
  }
  SUBCASE("it was declared dead") {
    const membership_answer fenced{.verdict = standing::fenced, .incarnation_floor = 2};
    const auto after = e.on_answer(beat[0].ticket, fenced, at_ms(30'001));
    const auto ended = only<became_fenced>(after);
    REQUIRE(ended.size() == 1);
    CHECK(ended[0].former == node(0, 1));
    CHECK(ended[0].next == node(0, 2));
    const auto join = only<send_join>(after);
    REQUIRE(join.size() == 1);
    CHECK(join[0].who.ref == node(0, 2));
    CHECK(only<became_active>(e.on_answer(join[0].ticket, accepted, at_ms(30'002))).size() == 1);
  }
}

TEST_CASE("a fenced node goes above the floor it is told") {
  enrolment e(member_of(0), options);
  const auto join = only<send_join>(e.tick(at_ms(0)));
  e.on_answer(join[0].ticket, {.verdict = standing::fenced, .incarnation_floor = 900}, at_ms(1));
  CHECK(e.self().ref.incarnation == 900);
}

TEST_CASE("answers to a former life, repeated and made-up answers change nothing") {
  enrolment e = joined_at(0);
  const auto first = only<send_heartbeat>(e.tick(at_ms(500)));
  const auto second = only<send_heartbeat>(e.tick(at_ms(1000)));
  const membership_answer fenced{.verdict = standing::fenced, .incarnation_floor = 2};
  e.on_answer(second[0].ticket, fenced, at_ms(1001));
  CHECK(e.self().ref.incarnation == 2);
  CHECK(e.on_answer(second[0].ticket, fenced, at_ms(1002)).empty());
  CHECK(e.on_answer(first[0].ticket, accepted, at_ms(1003)).empty());
  CHECK(e.on_answer(12345, accepted, at_ms(1004)).empty());
  CHECK(e.self().ref.incarnation == 2);
  CHECK(e.state() == enrolment_state::joining);
}

TEST_CASE("a coordinator that does not know a node that was in a view is joined with a new life") {
  enrolment e = joined_at(0);
  const auto beat = only<send_heartbeat>(e.tick(at_ms(500)));
  const auto actions = e.on_answer(beat[0].ticket, {.verdict = standing::unknown}, at_ms(501));
  CHECK(only<became_fenced>(actions).size() == 1);
  const auto join = only<send_join>(actions);
  REQUIRE(join.size() == 1);
  CHECK(join[0].who.ref == node(0, 2));
  CHECK_FALSE(e.in_good_standing(at_ms(501)));
}

TEST_CASE("whoever holds no membership is no coordinator") {
  enrolment e = joined_at(0);
  const auto beat = only<send_heartbeat>(e.tick(at_ms(500)));
  const auto actions = e.on_answer(beat[0].ticket, {.verdict = standing::not_coordinator}, at_ms(501));
  CHECK(only<lost_coordinator>(actions).size() == 1);
  CHECK(e.self().ref == node(0));
  CHECK(e.in_good_standing(at_ms(501)));
  CHECK(only<send_heartbeat>(e.tick(at_ms(502))).size() == 1);  // to whom is found meanwhile
}

TEST_CASE("views only go forward, and one without the node is asked about") {
  enrolment e = joined_at(0);
  const view with{.epoch = 5, .members = {member_of(0), member_of(1)}};
  const auto adopted = only<adopted_view>(e.on_view(with, at_ms(1)));
  REQUIRE(adopted.size() == 1);
  CHECK(adopted[0].change.joined.size() == 2);
  CHECK(e.on_view({.epoch = 4, .members = {}}, at_ms(2)).empty());
  CHECK(e.current() == with);

  const auto actions = e.on_view({.epoch = 6, .members = {member_of(1)}}, at_ms(3));
  CHECK(only<adopted_view>(actions)[0].change.gone == std::vector{node(0)});
  const auto beat = only<send_heartbeat>(actions);
  REQUIRE(beat.size() == 1);
  CHECK(beat[0].known_epoch == 6);
}

TEST_CASE("a lost connection is tried again at once") {
  enrolment e = joined_at(0);
  const auto beat = only<send_heartbeat>(e.tick(at_ms(500)));
  e.on_connection_lost();
  CHECK(e.on_answer(beat[0].ticket, accepted, at_ms(501)).empty());
  CHECK(only<send_heartbeat>(e.tick(at_ms(501))).size() == 1);
}

TEST_CASE("the next deadline is the next beat or the end of the lease") {
  enrolment e = joined_at(0);
  CHECK(e.next_deadline() == at_ms(500));
}

}  // namespace weft::machines::test
