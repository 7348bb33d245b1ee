#include <weft/schema/event_thread.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>
#include <thread>
#include <vector>

using weft::schema::event_thread;

TEST_CASE("tasks run in order on one thread that is not the caller's") {
  event_thread thread;
  std::vector<int> order;
  std::thread::id where;
  for (int i = 0; i < 1000; ++i)
    CHECK(thread.tasks()->post([&order, i] { order.push_back(i); }));
  thread.run([&] { where = std::this_thread::get_id(); });
  CHECK(where != std::this_thread::get_id());
  REQUIRE(order.size() == 1000);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("what a task throws reaches who waits for it, and the thread goes on") {
  event_thread thread;
  CHECK_THROWS_WITH(thread.run([] { throw std::runtime_error("no"); }), "no");
  bool ran = false;
  thread.run([&] { ran = true; });
  CHECK(ran);
}

TEST_CASE("stop runs what was posted before it, then the last task; later posts are refused") {
  auto box = std::shared_ptr<event_thread::mailbox>();
  std::vector<int> order;
  {
    event_thread thread;
    box = thread.tasks();
    for (int i = 0; i < 10; ++i)
      box->post([&order, i] { order.push_back(i); });
    thread.stop([&] { order.push_back(100); });
    CHECK(!box->post([&order] { order.push_back(200); }));
    CHECK_THROWS(thread.run([] {}));
    thread.stop([&] { order.push_back(300); });
  }
  CHECK(!box->post([] {}));
  REQUIRE(order.size() == 11);
  CHECK(order.back() == 100);
}

TEST_CASE("a refused task is destroyed, not kept") {
  event_thread thread;
  thread.stop([] {});
  auto held = std::make_shared<int>(1);
  thread.tasks()->post([held] { static_cast<void>(held); });
  CHECK(held.use_count() == 1);
}

TEST_CASE("many threads post at once") {
  event_thread thread;
  int count = 0;
  {
    std::vector<std::jthread> posters;
    for (int t = 0; t < 4; ++t)
      posters.emplace_back([&] {
        for (int i = 0; i < 2500; ++i)
          thread.tasks()->post([&] { ++count; });
      });
  }
  thread.run([&] { CHECK(count == 10'000); });
}
