// What every transport promises. Include after defining WEFT_TRANSPORT_PAIRS as the list of pairs to hold to
// it.
#pragma once

#include <weft/fabric/fetch_watcher.hpp>

#include <doctest/doctest.h>

#include "pattern.hpp"
#include "peer_role.hpp"
#include "transport_pair.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <vector>

namespace weft::fabric::testing {

using namespace std::chrono_literals;

inline constexpr std::byte untouched{0xee};

inline void blank(std::span<std::byte> arena) {
  std::fill(arena.begin(), arena.end(), untouched);
}

inline std::vector<std::byte> numbered(std::uint32_t number, std::size_t bytes) {
  std::vector<std::byte> out(std::max(bytes, sizeof number), std::byte{static_cast<unsigned char>(number)});
  std::memcpy(out.data(), &number, sizeof number);
  return out;
}

inline std::uint32_t number_of(std::span<const std::byte> payload) {
  std::uint32_t number = 0;
  std::memcpy(&number, payload.data(), std::min(payload.size(), sizeof number));
  return number;
}

// Everything that this side and the peer had begun before has had its effect here.
inline void exchange_echo(transport_pair& pair, peer_id peer, std::uint32_t number) {
  std::vector<std::uint32_t> heard;
  pair.here().on_message(echo_answer_channel, [&](peer_id, std::span<const std::byte> payload) {
    pair.note([&] { heard.push_back(number_of(payload)); });
  });
  pair.here().send(peer, echo_channel, numbered(number, 4), {});
  CHECK(pair.wait_for([&] { return !heard.empty() && heard.back() == number; }));
  pair.here().on_message(echo_answer_channel, [](peer_id, std::span<const std::byte>) {});
}

TEST_CASE_TEMPLATE("a fetch brings its ranges and touches nothing else", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  auto arena = pair.here().arena();
  blank(arena.first(1 << 20));
  const auto report =
      fetch_now(pair, peer, {{5, 1000, 64}, {1 << 20, 4096, 8192}, {77, 0, 3}, {300'000, 150'001, 20'001}});
  REQUIRE(report.outcome);
  CHECK(report.bytes == 1000 + 4096 + 150'001);
  REQUIRE(report.ranges.size() == 4);
  CHECK(std::all_of(report.ranges.begin(), report.ranges.end(), [](const auto& r) { return r.has_value(); }));
  CHECK(is_pattern(arena.subspan(64, 1000), 5));
  CHECK(is_pattern(arena.subspan(8192, 4096), 1 << 20));
  CHECK(is_pattern(arena.subspan(20'001, 150'001), 300'000));
  CHECK(all_equal(arena.first(64), untouched));
  CHECK(all_equal(arena.subspan(1064, 8192 - 1064), untouched));
  CHECK(all_equal(arena.subspan(8192 + 4096, 20'001 - 8192 - 4096), untouched));
  CHECK(all_equal(arena.subspan(170'002, 1000), untouched));
  CHECK(pair.here().counters().bytes_in == report.bytes);
  CHECK(pair.here().counters().fetches == 1);
}

TEST_CASE_TEMPLATE("an empty batch is done at once", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto report = fetch_now(pair, connect_pair(pair), {});
  CHECK(report.outcome);
  CHECK(report.ranges.empty());
}

TEST_CASE_TEMPLATE("a batch of a thousand odd ranges", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  std::mt19937 random{7};
  std::vector<fetch_range> ranges;
  std::uint64_t local = 0;
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t length = i % 50 == 0 ? 200'000 + random() % 1000 : random() % 5000;
    local += random() % 100;
    ranges.push_back({random() % (Pair::arena_bytes - length), length, local});
    local += length;
  }
  auto arena = pair.here().arena();
  blank(arena.first(local + 1000));
  const auto report = fetch_now(pair, peer, ranges);
  REQUIRE(report.outcome);
  bool right = true;
  std::uint64_t end = 0;
  for (const auto& range : ranges) {
    right = right && all_equal(arena.subspan(end, range.local_offset - end), untouched);
    right = right && is_pattern(arena.subspan(range.local_offset, range.length_bytes), range.remote_offset);
    end = range.local_offset + range.length_bytes;
  }
  CHECK(right);
  CHECK(all_equal(arena.subspan(end, 1000), untouched));
}

// Notes what it sees; ranges are to be `ok` unless named.
class noting_watcher final : public fetch_watcher {
 public:
  explicit noting_watcher(std::vector<std::size_t> refused = {}) : refused_(std::move(refused)) {}

  void arrived(std::size_t range, std::span<const std::byte> bytes) override {
    in_order = in_order && range >= last_ && (seen[range].empty() || range == last_);
    last_ = range;
    seen[range].insert(seen[range].end(), bytes.begin(), bytes.end());
    places[range].push_back(bytes);
  }
  result<void> complete(std::size_t range) override {
    ++completed[range];
    if (std::find(refused_.begin(), refused_.end(), range) == refused_.end()) return {};
    return fail(errc::corrupt, "not what the watcher wanted");
  }

  bool in_order = true;
  std::map<std::size_t, std::vector<std::byte>> seen;
  std::map<std::size_t, std::vector<std::span<const std::byte>>> places;
  std::map<std::size_t, int> completed;

 private:
  std::vector<std::size_t> refused_;
  std::size_t last_ = 0;
};

TEST_CASE_TEMPLATE("a watcher sees every byte once and in order, and judges ranges", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  const std::vector<fetch_range> ranges{
      {5, 1000, 64}, {1 << 20, 300'000, 8192}, {Pair::arena_bytes, 10, 0},  // refused by the transport
      {9, 0, 0},     {77, 500'000, 400'000},   {78, 5000, 2 << 20}};
  const auto watcher = std::make_shared<noting_watcher>(std::vector<std::size_t>{1});
  const auto report =
      answer_to<fetch_report>(pair, [&](auto done) { pair.here().fetch(peer, ranges, 60s, done, watcher); });
  REQUIRE(!report.outcome);
  REQUIRE(report.ranges.size() == ranges.size());
  CHECK(watcher->in_order);
  for (const std::size_t good : {0, 4, 5})
    CHECK(report.ranges[good]);
  REQUIRE(!report.ranges[1]);
  CHECK(report.ranges[1].error().code == errc::corrupt);
  REQUIRE(!report.ranges[2]);
  CHECK(report.ranges[2].error().code == errc::invalid_argument);
  CHECK(watcher->seen.size() == 4);
  const auto arena = pair.here().arena();
  for (const std::size_t i : {0, 1, 4, 5}) {
    CHECK(watcher->completed[i] == 1);
    REQUIRE(watcher->seen[i].size() == ranges[i].length_bytes);
    CHECK(is_pattern(watcher->seen[i], ranges[i].remote_offset));
    const auto* next = arena.data() + ranges[i].local_offset;
    bool in_place = true;
    for (const auto& piece : watcher->places[i]) {
      in_place = in_place && piece.data() == next;
      next += piece.size();
    }
    CHECK(in_place);
  }
}

TEST_CASE_TEMPLATE("a view shows ranges where they stand, or says that it cannot", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  auto arena = pair.here().arena();
  blank(arena.first(4096));
  const std::vector<fetch_range> ranges{{5, 1000, 64},
                                        {1 << 20, 3'000'000, 0},
                                        {Pair::arena_bytes - 10, 11, 0},  // outside
                                        {9, 0, 0},
                                        {77, 500'000, Pair::arena_bytes}};  // nothing is written there
  const auto watcher = std::make_shared<noting_watcher>(std::vector<std::size_t>{4});
  const auto report =
      answer_to<fetch_report>(pair, [&](auto done) { pair.here().view(peer, ranges, 60s, done, watcher); });
  REQUIRE(!report.outcome);
  REQUIRE(report.ranges.size() == ranges.size());
  REQUIRE(!report.ranges[2]);
  CHECK(report.ranges[2].error().code == errc::invalid_argument);
  CHECK(all_equal(arena.first(4096), untouched));
  CHECK(pair.here().counters().bytes_in == 0);
  if (!pair.views_peers()) {
    REQUIRE(!report.ranges[0]);
    CHECK(report.ranges[0].error().code == errc::unsupported);
    CHECK(report.views.empty());
    CHECK(watcher->seen.empty());
    CHECK(fetch_now(pair, peer, {ranges[0]}).outcome);
    return;
  }
  REQUIRE(report.views.size() == ranges.size());
  for (const std::size_t i : {0, 1}) {
    CHECK(report.ranges[i]);
    REQUIRE(report.views[i].bytes().size() == ranges[i].length_bytes);
    CHECK(is_pattern(report.views[i].bytes(), ranges[i].remote_offset));
    CHECK(watcher->completed[i] == 1);
    CHECK(watcher->places[i].front().data() == report.views[i].bytes().data());
    CHECK(is_pattern(watcher->seen[i], ranges[i].remote_offset));
  }
  CHECK(watcher->in_order);
  CHECK(report.views[2].bytes().empty());
  REQUIRE(!report.ranges[4]);
  CHECK(report.ranges[4].error().code == errc::corrupt);
  CHECK(report.views[4].bytes().empty());
  CHECK(pair.here().counters().bytes_viewed == 1000 + 3'000'000 + 500'000);
}

TEST_CASE_TEMPLATE("what is viewed stays readable without its connection and its owner", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  bool down = false;
  pair.here().on_peer_down([&](peer_id, const error&) { pair.note([&] { down = true; }); });
  const auto peer = connect_pair(pair);
  const auto report = view_now(pair, peer, {{123, 2'000'000, 0}, {4'000'000, 70'000, 0}});
  REQUIRE(report.outcome.has_value() == pair.views_peers());
  if (!pair.views_peers()) return;
  pair.freeze_peer();
  CHECK(is_pattern(report.views[0].bytes(), 123));
  CHECK(view_now(pair, peer, {{50, 5000, 0}}).outcome);  // it needs nothing of the owner
  pair.kill_peer();
  REQUIRE(pair.wait_for([&] { return down; }));
  CHECK(!pair.here().peers()[0].alive);
  CHECK(!view_now(pair, peer, {{123, 10, 0}}).outcome);
  CHECK(is_pattern(report.views[0].bytes(), 123));
  const auto kept = report.views[1];
  pair.close_here();
  CHECK(is_pattern(report.views[0].bytes(), 123));
  CHECK(is_pattern(kept.bytes(), 4'000'000));
}

TEST_CASE_TEMPLATE("a node views itself", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto self = connect_to(pair, pair.here().address());
  REQUIRE(self);
  const auto report = view_now(pair, *self, {{100, 5000, 0}});
  REQUIRE(report.outcome);
  CHECK(report.views[0].bytes().data() == pair.here().arena().data() + 100);
}

TEST_CASE_TEMPLATE("a watcher hears nothing after the callback", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  const auto watcher = std::make_shared<noting_watcher>();
  const awaited<fetch_report> fetched{pair};
  const auto operation =
      pair.here().fetch(peer, {{0, Pair::large_bytes / 2, 0}}, 60s, fetched.callback(), watcher);
  pair.here().cancel(operation);
  const auto& report = fetched.get();
  exchange_echo(pair, peer, 3);
  CHECK(watcher->completed[0] == (report.outcome ? 1 : 0));
  CHECK(watcher.use_count() == 1);
}

TEST_CASE_TEMPLATE("a large range in one piece", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto report = fetch_now(pair, connect_pair(pair), {{12'345, Pair::large_bytes, 1'000'001}});
  REQUIRE(report.outcome);
  CHECK(report.bytes == Pair::large_bytes);
  CHECK(is_pattern(pair.here().arena().subspan(1'000'001, Pair::large_bytes), 12'345));
}

TEST_CASE_TEMPLATE("ten thousand small fetches at once, each answered once", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  constexpr std::uint64_t count = 10'000;
  std::vector<unsigned> answers(count);
  std::uint64_t answered = 0;
  std::uint64_t good = 0;
  for (std::uint64_t i = 0; i < count; ++i)
    pair.here().fetch(peer, {{i * 777, 100 + i % 300, i * 512}}, 60s, [&, i](const fetch_report& report) {
      pair.note([&] {
        ++answers[i];
        ++answered;
        good += report.outcome ? 1 : 0;
      });
    });
  REQUIRE(pair.wait_for([&] { return answered >= count; }));
  exchange_echo(pair, peer, 1);
  CHECK(answered == count);
  CHECK(good == count);
  CHECK(std::all_of(answers.begin(), answers.end(), [](unsigned n) { return n == 1; }));
  bool right = true;
  for (std::uint64_t i = 0; i < count; ++i)
    right = right && is_pattern(pair.here().arena().subspan(i * 512, 100 + i % 300), i * 777);
  CHECK(right);
}

TEST_CASE_TEMPLATE("ranges outside either arena are refused one by one", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  constexpr auto size = Pair::arena_bytes;
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  auto arena = pair.here().arena();
  blank(arena.first(4096));
  const auto report = fetch_now(pair, peer,
                                {{0, 100, 0},             // good
                                 {size - 10, 11, 0},      // remote end
                                 {0, 11, size - 10},      // local end
                                 {most, 2, 0},            // remote start; start + length wraps
                                 {0, most, 0},            // length
                                 {1, 100, most - 50},     // local start wraps
                                 {size - 10, 10, 200}});  // good, to the last byte
  REQUIRE(!report.outcome);
  CHECK(report.outcome.error().code == errc::invalid_argument);
  REQUIRE(report.ranges.size() == 7);
  CHECK(report.ranges[0]);
  CHECK(report.ranges[6]);
  for (std::size_t bad = 1; bad < 6; ++bad) {
    REQUIRE(!report.ranges[bad]);
    CHECK(report.ranges[bad].error().code == errc::invalid_argument);
  }
  CHECK(is_pattern(arena.first(100), 0));
  CHECK(is_pattern(arena.subspan(200, 10), size - 10));
  CHECK(all_equal(arena.subspan(100, 100), untouched));
}

TEST_CASE_TEMPLATE("a peer that is not there is unreachable", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto report = fetch_now(pair, peer_id{4711}, {{0, 10, 0}, {10, 10, 10}});
  REQUIRE(!report.outcome);
  CHECK(report.outcome.error().code == errc::unreachable);
  REQUIRE(report.ranges.size() == 2);
  CHECK(!report.ranges[1]);
  const auto sent = answer_to<result<void>>(
      pair, [&](auto done) { pair.here().send(peer_id{4711}, echo_channel, {}, done); });
  REQUIRE(!sent);
  CHECK(sent.error().code == errc::unreachable);
}

TEST_CASE_TEMPLATE("connecting again gives the same peer, a wrong address an error", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  CHECK(connect_pair(pair) == peer);
  const auto statuses = pair.here().peers();
  REQUIRE(statuses.size() == 1);
  CHECK(statuses[0].peer == peer);
  CHECK(statuses[0].alive);
  for (const auto& wrong : {std::string{}, std::string{"nonsense"}, pair.peer_address().substr(0, 40),
                            pair.peer_address() + "x"}) {
    const auto refused = connect_to(pair, wrong);
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::invalid_argument);
  }
}

TEST_CASE_TEMPLATE("a node reaches itself like any peer", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto self = connect_to(pair, pair.here().address());
  REQUIRE(self);
  auto arena = pair.here().arena();
  fill_with_pattern(arena.first(1 << 20));
  CHECK(fetch_now(pair, *self, {{100, 5000, 2 << 20}}).outcome);
  CHECK(is_pattern(arena.subspan(2 << 20, 5000), 100));
  std::uint32_t heard = 0;
  pair.here().on_message(9, [&](peer_id, std::span<const std::byte> payload) {
    pair.note([&] { heard = number_of(payload); });
  });
  pair.here().send(*self, 9, numbered(42, 4), {});
  CHECK(pair.wait_for([&] { return heard == 42; }));
}

TEST_CASE_TEMPLATE("messages of all sizes come in order, and back", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  constexpr std::uint32_t count = 1500;
  const auto size_of = [](std::uint32_t i) {
    return i % 97 == 0 ? max_message_bytes : 4 + (i * 7919) % 20'000;
  };
  std::vector<std::uint32_t> heard;
  bool whole = true;
  pair.here().on_message(echo_answer_channel, [&](peer_id from, std::span<const std::byte> payload) {
    pair.note([&] {
      const auto number = number_of(payload);
      whole = whole && from == peer && payload.size() == size_of(number) &&
              payload.back() == numbered(number, 5).back();
      heard.push_back(number);
    });
  });
  std::uint32_t sent = 0;
  for (std::uint32_t i = 1; i <= count; ++i)
    pair.here().send(peer, echo_channel, numbered(i, size_of(i)),
                     [&](const result<void>& outcome) { pair.note([&] { sent += outcome ? 1 : 0; }); });
  REQUIRE(pair.wait_for([&] { return heard.size() >= count; }));
  CHECK(pair.wait_for([&] { return sent == count; }));
  std::vector<std::uint32_t> expected(count);
  std::iota(expected.begin(), expected.end(), 1U);
  CHECK(heard == expected);
  CHECK(whole);
  CHECK(pair.here().counters().messages_out == count);
  CHECK(pair.here().counters().messages_in == count);
}

TEST_CASE_TEMPLATE("a message over the limit is refused", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  const auto sent = answer_to<result<void>>(pair, [&](auto done) {
    pair.here().send(peer, echo_channel, std::vector<std::byte>(max_message_bytes + 1), done);
  });
  REQUIRE(!sent);
  CHECK(sent.error().code == errc::invalid_argument);
  exchange_echo(pair, peer, 5);
}

TEST_CASE_TEMPLATE("the peer fetches from who connected to it", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  fill_with_pattern(pair.here().arena());
  std::vector<std::byte> answer;
  bool answered = false;
  pair.here().on_message(fetch_back_answer_channel, [&](peer_id, std::span<const std::byte> payload) {
    pair.note([&] {
      answer.assign(payload.begin(), payload.end());
      answered = true;
    });
  });
  const fetch_range wanted{.remote_offset = 3'000'003, .length_bytes = 700'000, .local_offset = 64};
  std::vector<std::byte> payload(sizeof wanted);
  std::memcpy(payload.data(), &wanted, sizeof wanted);
  pair.here().send(peer, fetch_back_channel, payload, {});
  REQUIRE(pair.wait_for([&] { return answered; }));
  REQUIRE(answer.size() == wanted.length_bytes);
  CHECK(is_pattern(answer, wanted.remote_offset));
}

TEST_CASE_TEMPLATE("after a cancelled fetch's callback nothing is written", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  auto arena = pair.here().arena();
  for (std::uint32_t round = 0; round < 5; ++round) {
    const awaited<fetch_report> fetched{pair};
    const auto operation = pair.here().fetch(peer, {{0, Pair::large_bytes / 2, 0}}, 60s, fetched.callback());
    pair.here().cancel(operation);
    const auto& report = fetched.get();
    if (!report.outcome) {
      CHECK(report.outcome.error().code == errc::cancelled);
      CHECK(!report.ranges[0]);
    }
    blank(arena.first(Pair::large_bytes / 2));
    exchange_echo(pair, peer, round + 1);
    CHECK(all_equal(arena.first(Pair::large_bytes / 2), untouched));
    CHECK(fetched.calls() == 1);
  }
}

TEST_CASE_TEMPLATE("disconnecting ends what is in flight", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  const awaited<fetch_report> fetched{pair};
  pair.here().fetch(peer, {{0, Pair::large_bytes, 0}}, 60s, fetched.callback());
  pair.here().disconnect(peer);
  const auto& report = fetched.get();
  if (!report.outcome) CHECK(report.outcome.error().code == errc::cancelled);
  CHECK(!fetch_now(pair, peer, {{0, 10, 0}}).outcome);
  const auto again = connect_pair(pair);
  CHECK(again != peer);
  CHECK(fetch_now(pair, again, {{0, 10, 0}}).outcome);
  CHECK(fetched.calls() == 1);
}

TEST_CASE_TEMPLATE("a transport that goes ends its fetches", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  int answers = 0;
  for (int i = 0; i < 20; ++i)
    pair.here().fetch(peer, {{0, Pair::large_bytes / 16, 0}}, 60s,
                      [&](const fetch_report&) { pair.note([&] { ++answers; }); });
  pair.close_here();
  CHECK(answers == 20);
}

TEST_CASE_TEMPLATE("a killed peer fails what is in flight and is reported once", Pair, WEFT_TRANSPORT_PAIRS) {
  constexpr int count = 50;
  std::vector<int> answers(count);
  int answered = 0;
  int downs = 0;
  Pair pair;  // what it calls back outlives it
  pair.here().on_peer_down([&](peer_id, const error& why) {
    pair.note([&] { downs += why.code == errc::unreachable ? 1 : 100; });
  });
  const auto peer = connect_pair(pair);
  for (int i = 0; i < count; ++i)
    pair.here().fetch(peer, {{0, Pair::large_bytes, 0}}, 60s, [&, i](const fetch_report& report) {
      const bool fits = report.outcome || report.outcome.error().code == errc::unreachable;
      pair.note([&] {
        answers[i] += fits ? 1 : 100;
        ++answered;
      });
    });
  pair.kill_peer();
  REQUIRE(pair.wait_for([&] { return answered >= count && downs > 0; }));
  CHECK(downs == 1);
  CHECK(std::all_of(answers.begin(), answers.end(), [](int n) { return n == 1; }));
  const auto late = fetch_now(pair, peer, {{0, 10, 0}});
  REQUIRE(!late.outcome);
  CHECK(late.outcome.error().code == errc::unreachable);
  REQUIRE(pair.here().peers().size() == 1);
  CHECK(!pair.here().peers()[0].alive);
  const auto again = connect_to(pair, pair.peer_address());
  REQUIRE(!again);
  CHECK(again.error().code == errc::unreachable);
}

TEST_CASE_TEMPLATE("a frozen peer costs a fetch its deadline and no more", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  auto arena = pair.here().arena();
  // The small one ends while the large one is on its way.
  const awaited<fetch_report> large{pair};
  const awaited<fetch_report> small{pair};
  pair.here().fetch(peer, {{0, Pair::large_bytes, 0}}, 400ms, large.callback());
  pair.here().fetch(peer, {{0, 100, Pair::large_bytes}}, 400ms, small.callback());
  small.get();
  pair.freeze_peer();
  const auto& ended = large.get();
  if (!ended.outcome) CHECK(ended.outcome.error().code == errc::deadline_exceeded);
  const auto while_frozen = fetch_now(pair, peer, {{0, 1 << 20, 0}}, 100ms);
  if (!pair.frozen_owner_can_be_read()) {
    REQUIRE(!while_frozen.outcome);
    CHECK(while_frozen.outcome.error().code == errc::deadline_exceeded);
    CHECK(while_frozen.bytes == 0);
  }
  blank(arena.first(Pair::large_bytes));
  pair.thaw_peer();
  exchange_echo(pair, peer, 3);
  CHECK(all_equal(arena.first(Pair::large_bytes), untouched));
  CHECK(fetch_now(pair, peer, {{50, 5000, 0}}).outcome);
  CHECK(is_pattern(arena.first(5000), 50));
  CHECK(large.calls() == 1);
}

}  // namespace weft::fabric::testing
