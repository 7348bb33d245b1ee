// What every transport promises of fetches into memory of the caller's. Include after contract.hpp.
#pragma once

#include <weft/fabric/registered_memory.hpp>

#include <doctest/doctest.h>

#include "contract.hpp"

#include <array>
#include <memory>
#include <utility>
#include <vector>

namespace weft::fabric::testing {

// Registered bytes between others that are not.
class landing_place {
 public:
  landing_place(transport_pair& pair, std::size_t bytes) : all_(bytes + 2 * margin, untouched) {
    auto made = pair.here().register_memory(bytes_of(), memory_kind::host);
    REQUIRE_MESSAGE(made.has_value(), (made ? "" : to_string(made.error())));
    handle_ = std::move(*made);
  }

  std::span<const std::byte> bytes() { return bytes_of(); }
  const std::shared_ptr<const registered_memory>& handle() const { return handle_; }
  std::shared_ptr<const registered_memory> take_handle() { return std::exchange(handle_, nullptr); }

  bool rest_is_untouched() {
    const std::span all{all_};
    return all_equal(all.first(margin), untouched) && all_equal(all.last(margin), untouched);
  }

 private:
  static constexpr std::size_t margin = 5000;

  std::span<std::byte> bytes_of() { return std::span{all_}.subspan(margin, all_.size() - 2 * margin); }

  std::vector<std::byte> all_;
  std::shared_ptr<const registered_memory> handle_;
};

TEST_CASE_TEMPLATE("a landing brings its ranges to registered memory, or says that it cannot", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  auto arena = pair.here().arena();
  blank(arena.first(1 << 20));
  landing_place place{pair, 3 << 20};
  CHECK(place.handle()->bytes().data() == place.bytes().data());
  CHECK(place.handle()->bytes().size() == place.bytes().size());
  CHECK(place.handle()->kind() == memory_kind::host);
  const std::vector<fetch_range> ranges{
      {5, 1000, 64}, {1 << 20, 2'000'001, 8192}, {77, 0, 3}, {9, 64, 3 << 20}};
  const auto report = land_now(pair, peer, ranges, place.handle());
  REQUIRE(!report.outcome);
  REQUIRE(report.ranges.size() == ranges.size());
  CHECK(report.views.empty());
  CHECK(all_equal(arena.first(1 << 20), untouched));
  CHECK(place.rest_is_untouched());
  if (!pair.lands_from_peers()) {
    CHECK(report.outcome.error().code == errc::unsupported);
    CHECK(report.ranges[0].error().code == errc::unsupported);
    CHECK(report.bytes == 0);
    CHECK(all_equal(place.bytes(), untouched));
    CHECK(pair.here().counters().failed_fetches == 0);
    CHECK(fetch_now(pair, peer, {ranges[0]}).outcome);
    return;
  }
  CHECK(report.bytes == 1000 + 2'000'001);
  for (const std::size_t good : {0, 1, 2})
    CHECK(report.ranges[good]);
  REQUIRE(!report.ranges[3]);
  CHECK(report.ranges[3].error().code == errc::invalid_argument);
  CHECK(is_pattern(place.bytes().subspan(64, 1000), 5));
  CHECK(is_pattern(place.bytes().subspan(8192, 2'000'001), 1 << 20));
  CHECK(all_equal(place.bytes().first(64), untouched));
  CHECK(all_equal(place.bytes().subspan(1064, 8192 - 1064), untouched));
  CHECK(all_equal(place.bytes().subspan(8192 + 2'000'001), untouched));
  CHECK(pair.here().counters().bytes_in == report.bytes);
  CHECK(pair.here().counters().fetches == 1);
}

TEST_CASE_TEMPLATE("a landing outside of the peer's arena or of its memory is refused range by range", Pair,
                   WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  if (!pair.lands_from_peers()) return;
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  constexpr std::uint64_t size = 4096;  // far less than the arena
  landing_place place{pair, size};
  const auto report = land_now(pair, peer,
                               {{0, 100, 0},                          // good
                                {Pair::arena_bytes - 10, 11, 0},      // remote end
                                {0, 11, size - 10},                   // local end
                                {0, 11, size + 5000},                 // inside the arena
                                {0, size + 1, 0},                     // length
                                {1, 100, most - 50},                  // wraps
                                {Pair::arena_bytes - 96, 96, 4000}},  // good, to the last byte of both
                               place.handle());
  REQUIRE(!report.outcome);
  CHECK(report.outcome.error().code == errc::invalid_argument);
  REQUIRE(report.ranges.size() == 7);
  CHECK(report.ranges[0]);
  CHECK(report.ranges[6]);
  for (std::size_t bad = 1; bad < 6; ++bad) {
    REQUIRE(!report.ranges[bad]);
    CHECK(report.ranges[bad].error().code == errc::invalid_argument);
  }
  CHECK(is_pattern(place.bytes().first(100), 0));
  CHECK(is_pattern(place.bytes().subspan(4000), Pair::arena_bytes - 96));
  CHECK(all_equal(place.bytes().subspan(100, 3900), untouched));
  CHECK(place.rest_is_untouched());
}

TEST_CASE_TEMPLATE("only memory that this transport registered is landed in", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  std::array<std::byte, 64> memory{};
  CHECK(pair.here().register_memory({}, memory_kind::host).error().code == errc::invalid_argument);
  CHECK(pair.here().register_memory(memory, memory_kind::cuda).error().code == errc::unsupported);
  Pair other;
  landing_place elsewhere{other, 4096};
  for (const auto& into : {elsewhere.handle(), std::shared_ptr<const registered_memory>{}}) {
    const auto report = land_now(pair, peer, {{0, 100, 0}}, into);
    REQUIRE(!report.outcome);
    CHECK(report.outcome.error().code == errc::invalid_argument);
    REQUIRE(report.ranges.size() == 1);
    CHECK(!report.ranges[0]);
  }
  CHECK(all_equal(elsewhere.bytes(), untouched));
  const auto nobody = land_now(pair, peer_id{4711}, {{0, 10, 0}}, landing_place{pair, 64}.handle());
  REQUIRE(!nobody.outcome);
  CHECK(nobody.outcome.error().code == errc::unreachable);
}

TEST_CASE_TEMPLATE("by its callback a landing has let go of its memory", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  const auto peer = connect_pair(pair);
  for (std::uint32_t round = 0; round < 4; ++round) {
    auto place = std::make_unique<landing_place>(pair, Pair::large_bytes / 2);
    auto handle = place->take_handle();
    const std::weak_ptr<const registered_memory> watched = handle;
    bool registered = true;
    int calls = 0;
    const auto operation = pair.here().land(peer, {{0, Pair::large_bytes / 2, 0}}, std::move(handle), 60s,
                                            [&](const fetch_report& report) {
                                              pair.note([&] {
                                                ++calls;
                                                registered = !watched.expired();
                                                if (report.outcome) CHECK(is_pattern(place->bytes(), 0));
                                                place.reset();  // nothing may be written there any more
                                              });
                                            });
    if (round % 2 == 0) pair.here().cancel(operation);
    REQUIRE(pair.wait_for([&] { return calls > 0; }));
    CHECK(!registered);
    exchange_echo(pair, peer, round + 1);
    CHECK(calls == 1);
  }
}

TEST_CASE_TEMPLATE("landings end with their peer and with their transport", Pair, WEFT_TRANSPORT_PAIRS) {
  Pair pair;
  int downs = 0;
  pair.here().on_peer_down([&](peer_id, const error&) { pair.note([&] { ++downs; }); });
  const auto peer = connect_pair(pair);
  landing_place place{pair, Pair::large_bytes / 4};
  constexpr int count = 40;
  std::vector<int> answers(count);
  int answered = 0;
  const auto land = [&](int i) {
    pair.here().land(peer, {{0, Pair::large_bytes / 4, 0}}, place.handle(), 60s, [&, i](const fetch_report&) {
      pair.note([&] {
        ++answers[i];
        ++answered;
      });
    });
  };
  for (int i = 0; i < count / 2; ++i)
    land(i);
  SUBCASE("the peer goes first") {
    pair.kill_peer();
    REQUIRE(pair.wait_for([&] { return answered >= count / 2 && downs > 0; }));
    const auto late = land_now(pair, peer, {{0, 10, 0}}, place.handle());
    REQUIRE(!late.outcome);
    CHECK(late.outcome.error().code == errc::unreachable);
  }
  SUBCASE("the transport goes first") {}
  for (int i = count / 2; i < count; ++i)
    land(i);
  pair.close_here();
  CHECK(answers == std::vector<int>(count, 1));
  place.take_handle();  // after its transport
}

}  // namespace weft::fabric::testing
