#include "conversation.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <thread>
#include <vector>

using weft::client::conversation;

TEST_CASE("steps run in order on the waiting thread, all of them before it goes on") {
  conversation talk;
  std::vector<int> order;
  const auto waiting = std::this_thread::get_id();
  bool here = true;
  std::jthread other([&] {
    for (int i = 0; i < 1000; ++i)
      talk.post([&, i] {
        here = here && std::this_thread::get_id() == waiting;
        order.push_back(i);
      });
    talk.finish();
  });
  talk.wait();
  CHECK(here);
  REQUIRE(order.size() == 1000);
  for (int i = 0; i < 1000; ++i)
    CHECK(order[static_cast<std::size_t>(i)] == i);
}

TEST_CASE("nothing is taken after the end") {
  conversation talk;
  talk.finish();
  CHECK(!talk.post([] {}));
  talk.wait();
}

TEST_CASE("what a step throws reaches who waits, and leaves no lock behind") {
  conversation talk;
  talk.post([] { throw std::runtime_error("enough"); });
  CHECK_THROWS_WITH(talk.wait(), "enough");
  CHECK(talk.post([] {}));
  talk.finish();
  talk.wait();
}
