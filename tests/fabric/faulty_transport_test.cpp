#include <doctest/doctest.h>

#include "in_process_pair.hpp"

#include <algorithm>
#include <map>
#include <span>
#include <vector>

namespace weft::fabric::testing {

using namespace std::chrono_literals;

namespace {

constexpr std::byte blank{0xee};
constexpr std::size_t length = 1000;

// Of the first `length` of the other arena; those that are missing count.
std::size_t wrong_bytes(std::span<const std::byte> fetched) {
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < length; ++i)
    wrong += i >= fetched.size() || fetched[i] != pattern_byte(i) ? 1 : 0;
  return wrong;
}

// One fetch of `length` bytes with that fault, into a blank arena.
struct spoiled {
  explicit spoiled(fetch_fault fault) : pair(path::push, true, {.seed = 4, .nth_fetch = {{0, fault}}}) {
    const auto peer = connect_pair(pair);
    std::fill_n(pair.here().arena().begin(), 4096, blank);
    before = pair.network().now();
    report = fetch_now(pair, peer, {{0, length, 100}, {5000, 0, 0}}, 50ms);
    after = pair.network().now();
  }

  std::span<const std::byte> fetched() { return pair.here().arena().subspan(100, length); }

  in_process_pair pair;
  fetch_report report;
  time_point before;
  time_point after;
};

}  // namespace

TEST_CASE("each fault of a fetch does what it says") {
  SUBCASE("fail") {
    spoiled fetch{fetch_fault::fail};
    REQUIRE(!fetch.report.outcome);
    CHECK(fetch.report.outcome.error().code == errc::unreachable);
    CHECK(fetch.report.ranges.size() == 2);
    CHECK(all_equal(fetch.pair.here().arena().first(4096), blank));
  }
  SUBCASE("lose") {
    spoiled fetch{fetch_fault::lose};
    CHECK(fetch.report.outcome);
    CHECK(all_equal(fetch.pair.here().arena().first(4096), blank));
  }
  SUBCASE("truncate") {
    spoiled fetch{fetch_fault::truncate};
    CHECK(fetch.report.outcome);
    CHECK(wrong_bytes(fetch.fetched()) > 0);
    CHECK(fetch.pair.here().arena()[100 + length - 1] == blank);
  }
  SUBCASE("flip_bit") {
    spoiled fetch{fetch_fault::flip_bit};
    CHECK(fetch.report.outcome);
    CHECK(wrong_bytes(fetch.fetched()) == 1);
  }
  SUBCASE("late") {
    spoiled fetch{fetch_fault::late};
    CHECK(fetch.report.outcome);
    CHECK(wrong_bytes(fetch.fetched()) == 0);
  }
  SUBCASE("stall") {
    spoiled fetch{fetch_fault::stall};
    REQUIRE(!fetch.report.outcome);
    CHECK(fetch.report.outcome.error().code == errc::deadline_exceeded);
    CHECK(fetch.after - fetch.before >= 50ms);
    CHECK(all_equal(fetch.pair.here().arena().first(4096), blank));
  }
  SUBCASE("fail_late") {
    spoiled fetch{fetch_fault::fail_late};
    REQUIRE(!fetch.report.outcome);
    CHECK(wrong_bytes(fetch.fetched()) == 0);
  }
}

TEST_CASE("a fault of a view is seen by its reader alone") {
  in_process_pair pair{path::get,
                       true,
                       {.seed = 4,
                        .nth_fetch = {{0, fetch_fault::flip_bit},
                                      {1, fetch_fault::truncate},
                                      {2, fetch_fault::lose},
                                      {3, fetch_fault::fail},
                                      {4, fetch_fault::late}}}};
  const auto peer = connect_pair(pair);
  const auto look = [&] { return view_now(pair, peer, {{0, length, 0}}, 50ms); };
  CHECK(wrong_bytes(look().views[0].bytes()) == 1);
  CHECK(wrong_bytes(look().views[0].bytes()) > 0);
  CHECK(all_equal(look().views[0].bytes(), std::byte{0}));
  CHECK(!look().outcome);
  for (int faultless = 0; faultless < 2; ++faultless)
    CHECK(wrong_bytes(look().views[0].bytes()) == 0);
}

TEST_CASE("a fault of a landing is done to the memory that it landed in") {
  std::vector<std::byte> memory(length);
  in_process_pair pair{path::get,
                       true,
                       {.seed = 4,
                        .nth_fetch = {{0, fetch_fault::flip_bit},
                                      {1, fetch_fault::truncate},
                                      {2, fetch_fault::lose},
                                      {3, fetch_fault::fail},
                                      {4, fetch_fault::stall},
                                      {5, fetch_fault::fail_late},
                                      {6, fetch_fault::late}}},
                       false};
  const auto peer = connect_pair(pair);
  std::fill_n(pair.here().arena().begin(), 4096, blank);
  const auto into = pair.here().register_memory(memory, memory_kind::host).value();
  const auto land = [&] {
    std::fill(memory.begin(), memory.end(), blank);
    return land_now(pair, peer, {{0, length, 0}}, into, 50ms);
  };
  CHECK(land().outcome);
  CHECK(wrong_bytes(memory) == 1);
  CHECK(land().outcome);
  CHECK(memory.back() == blank);
  CHECK(land().outcome);
  CHECK(all_equal(memory, blank));
  CHECK(land().outcome.error().code == errc::unreachable);
  CHECK(all_equal(memory, blank));
  CHECK(land().outcome.error().code == errc::deadline_exceeded);
  CHECK(all_equal(memory, blank));
  CHECK(land().outcome.error().code == errc::unreachable);
  CHECK(wrong_bytes(memory) == 0);
  for (int whole = 0; whole < 2; ++whole) {
    CHECK(land().outcome);
    CHECK(wrong_bytes(memory) == 0);
  }
  CHECK(all_equal(pair.here().arena().first(4096), blank));
}

TEST_CASE("only the planned fetch is spoiled") {
  in_process_pair pair{path::get, true, {.nth_fetch = {{1, fetch_fault::fail}}}};
  const auto peer = connect_pair(pair);
  CHECK(fetch_now(pair, peer, {{0, 10, 0}}).outcome);
  CHECK(!fetch_now(pair, peer, {{0, 10, 0}}).outcome);
  CHECK(fetch_now(pair, peer, {{0, 10, 0}}).outcome);
  CHECK(pair.faulty().faults().fetches == 1);
}

TEST_CASE("a lost message looks sent, a failed one does not") {
  in_process_pair pair{path::get, true, {.nth_send = {{0, send_fault::lose}, {1, send_fault::fail}}}};
  const auto peer = connect_pair(pair);
  std::vector<std::size_t> echoes;
  pair.here().on_message(echo_answer_channel, [&](peer_id, std::span<const std::byte> payload) {
    echoes.push_back(payload.size());
  });
  std::vector<bool> outcomes;
  for (std::size_t size = 1; size <= 3; ++size)
    pair.here().send(peer, echo_channel, std::vector<std::byte>(size),
                     [&](const result<void>& outcome) { outcomes.push_back(outcome.has_value()); });
  CHECK(pair.wait_for([&] { return outcomes.size() == 3 && !echoes.empty(); }));
  CHECK(std::count(outcomes.begin(), outcomes.end(), false) == 1);
  CHECK(echoes == std::vector<std::size_t>{3});
}

TEST_CASE("a stalled fetch can be cancelled, and ends with its transport") {
  in_process_pair pair{path::get, true, {.nth_fetch = {{0, fetch_fault::stall}, {1, fetch_fault::stall}}}};
  const auto peer = connect_pair(pair);
  const awaited<fetch_report> first{pair};
  pair.here().cancel(pair.here().fetch(peer, {{0, 10, 0}}, 10s, first.callback()));
  REQUIRE(!first.get().outcome);
  CHECK(first.get().outcome.error().code == errc::cancelled);
  const awaited<fetch_report> second{pair};
  pair.here().fetch(peer, {{0, 10, 0}}, 10s, second.callback());
  pair.close_here();
  REQUIRE(second.calls() == 1);
  CHECK(second.get().outcome.error().code == errc::cancelled);
}

TEST_CASE("under all faults every callback comes once and the same seed gives the same run") {
  const auto run = [](std::uint64_t seed) {
    fault_plan plan{.seed = seed};
    for (const auto fault :
         {fetch_fault::fail, fetch_fault::lose, fetch_fault::truncate, fetch_fault::flip_bit,
          fetch_fault::late, fetch_fault::stall, fetch_fault::fail_late})
      plan.fetches_per_mille[fault] = 60;
    plan.sends_per_mille = {{send_fault::fail, 100}, {send_fault::lose, 100}};
    in_process_pair pair{path::push, true, plan};
    const auto peer = connect_pair(pair);
    constexpr std::size_t count = 500;
    std::vector<int> answers(count);
    std::vector<bool> good(count);
    std::size_t sent = 0;
    for (std::size_t i = 0; i < count; ++i) {
      pair.here().fetch(peer, {{i * 100, 100, i * 100}}, 20ms, [&, i](const fetch_report& report) {
        ++answers[i];
        good[i] = report.outcome.has_value();
      });
      pair.here().send(peer, echo_channel, std::vector<std::byte>(8), [&](const result<void>&) { ++sent; });
    }
    pair.network().advance(1s);
    CHECK(std::all_of(answers.begin(), answers.end(), [](int n) { return n == 1; }));
    CHECK(sent == count);
    CHECK(pair.faulty().faults().fetches > count / 5);
    CHECK(pair.faulty().faults().fetches < count);
    CHECK(pair.faulty().faults().sends > 0);
    return good;
  };
  CHECK(run(11) == run(11));
  CHECK(run(11) != run(12));
}

}  // namespace weft::fabric::testing
