#include <weft/machines/block_ways.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"

#include <array>
#include <vector>

namespace weft::machines::test {
namespace {

const node_ref holder = node(1);
constexpr usable_ways all{.view = true, .land = true};
constexpr usable_ways landing{.view = false, .land = true};

constexpr errc every_code[] = {
    errc::ok,         errc::invalid_argument,  errc::not_found,   errc::corrupt,   errc::stale,
    errc::overloaded, errc::deadline_exceeded, errc::unreachable, errc::cancelled, errc::unsupported,
    errc::io,         errc::out_of_space,      errc::internal,
};

// What the fabric says of two pieces of which none came, or both.
struct of_two {
  std::array<errc, 2> pieces;
  way_outcome outcome;

  explicit of_two(errc fabric, bool came = false) : pieces{fabric, fabric}, outcome{fabric, came, pieces} {}
  // Both came, and then they were looked at.
  of_two(errc first, errc second) : pieces{first, second}, outcome{errc::ok, true, pieces} {}
  of_two(const of_two&) = delete;
  of_two& operator=(const of_two&) = delete;
};

const of_two well{errc::ok, true};
const of_two refused{errc::unsupported};

}  // namespace

TEST_CASE("blocks are looked at before they land, and land before they are copied") {
  const block_ways ways;
  CHECK(ways.choose(holder, all) == block_way::view);
  CHECK(ways.choose(holder, {.view = true, .land = false}) == block_way::view);
  CHECK(ways.choose(holder, landing) == block_way::land);
  CHECK(ways.choose(holder, {}) == block_way::copy);
}

TEST_CASE("what a holder refuses is not asked of it again, and of others it is") {
  block_ways ways;
  CHECK(ways.judge(holder, all, block_way::view, refused.outcome) == block_way::land);
  CHECK(ways.choose(holder, all) == block_way::land);
  CHECK(ways.choose(holder, {.view = true, .land = false}) == block_way::copy);
  CHECK(ways.choose(node(2), all) == block_way::view);
  CHECK(ways.judge(holder, all, block_way::land, refused.outcome) == block_way::copy);
  CHECK(ways.choose(holder, all) == block_way::copy);
  CHECK(ways.judge(holder, all, block_way::copy, refused.outcome) == block_way::copy);
  CHECK(ways.choose(node(2), landing) == block_way::land);
}

TEST_CASE("a refusal that comes when another way is closed already leads to the next one") {
  block_ways ways;
  ways.judge(holder, landing, block_way::land, refused.outcome);
  CHECK(ways.choose(holder, all) == block_way::view);
  CHECK(ways.judge(holder, all, block_way::view, refused.outcome) == block_way::copy);
}

TEST_CASE("a view is closed by a refusal alone") {
  for (const auto code : every_code) {
    CAPTURE(name_of(code));
    for (const bool came : {false, true}) {
      if (code == errc::unsupported && !came) continue;
      block_ways ways;
      const of_two outcome{code, came};
      CHECK(ways.judge(holder, all, block_way::view, outcome.outcome) == block_way::view);
      CHECK(ways.choose(holder, all) == block_way::view);
    }
  }
}

TEST_CASE("gets that fail close landing; a holder that is gone or late says nothing of it") {
  for (const auto code : every_code) {
    CAPTURE(name_of(code));
    for (const bool came : {false, true}) {
      block_ways ways;
      const of_two outcome{code, came};
      const bool closes =
          code == errc::internal || code == errc::unsupported || (code == errc::invalid_argument && !came);
      const bool is_short = code == errc::out_of_space || code == errc::io;
      CHECK(ways.judge(holder, landing, block_way::land, outcome.outcome) ==
            (closes || is_short ? block_way::copy : block_way::land));
      CHECK(ways.choose(holder, landing) == (closes ? block_way::copy : block_way::land));
    }
  }
}

TEST_CASE("a device that fails closes landing; what a block turns out to be says nothing of it") {
  for (const auto code : every_code) {
    CAPTURE(name_of(code));
    block_ways ways;
    const of_two outcome{errc::ok, code};
    const bool fails = code == errc::internal || code == errc::out_of_space;
    CHECK(ways.judge(holder, landing, block_way::land, outcome.outcome) ==
          (fails ? block_way::copy : block_way::land));
    CHECK(ways.choose(holder, landing) == (code == errc::internal ? block_way::copy : block_way::land));
  }
}

TEST_CASE("a device that fails at what came before the holder went closes landing") {
  block_ways ways;
  const std::array pieces{errc::internal, errc::unreachable};
  CHECK(ways.judge(holder, landing, block_way::land, {errc::unreachable, true, pieces}) == block_way::copy);
  CHECK(ways.choose(holder, landing) == block_way::copy);
}

TEST_CASE("want of memory closes landing when it lasts") {
  const of_two gets{errc::out_of_space};
  const of_two device{errc::ok, errc::out_of_space};
  const of_two late{errc::deadline_exceeded};
  block_ways ways;
  const auto judge = [&](const of_two& outcome) {
    return ways.judge(holder, landing, block_way::land, outcome.outcome);
  };
  for (int round = 0; round < 3; ++round) {
    CHECK(judge(gets) == block_way::copy);
    CHECK(judge(device) == block_way::copy);
    CHECK(judge(well) == block_way::land);
  }
  for (unsigned shortage = 1; shortage < block_ways::shortages_max; ++shortage) {
    CHECK(judge(device) == block_way::copy);
    CHECK(judge(late) == block_way::land);  // neither well nor short
    CHECK(ways.choose(holder, landing) == block_way::land);
  }
  // Another holder's are counted apart.
  CHECK(ways.judge(node(2), landing, block_way::land, device.outcome) == block_way::copy);
  CHECK(ways.choose(node(2), landing) == block_way::land);
  CHECK(judge(device) == block_way::copy);
  CHECK(ways.choose(holder, landing) == block_way::copy);
}

TEST_CASE("what was closed stays closed, whatever is still on its way") {
  block_ways ways;
  const of_two failed{errc::internal};
  ways.judge(holder, landing, block_way::land, failed.outcome);
  CHECK(ways.judge(holder, landing, block_way::land, well.outcome) == block_way::land);
  CHECK(ways.choose(holder, landing) == block_way::copy);
}

TEST_CASE("a holder that starts anew is tried anew") {
  block_ways ways;
  const of_two failed{errc::internal};
  ways.judge(holder, all, block_way::view, refused.outcome);
  ways.judge(holder, all, block_way::land, failed.outcome);
  CHECK(ways.choose(holder, all) == block_way::copy);
  CHECK(ways.choose(node(1, 2), all) == block_way::view);
  ways.forget(node(1, 2));
  CHECK(ways.choose(holder, all) == block_way::copy);
  ways.forget(holder);
  CHECK(ways.choose(holder, all) == block_way::view);
}

}  // namespace weft::machines::test
