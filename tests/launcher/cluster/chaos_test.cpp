// Nodes of a real cluster are killed and frozen at random under load: what was acknowledged and has a holder
// left is found, and what is found is right. WEFT_ROUNDS=n does that many rounds.
#include <doctest/doctest.h>

#include "../abandoned_memory.hpp"
#include "running_cluster.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdlib>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>

using namespace weft;
using namespace weft::testing;

namespace {

constexpr std::size_t most_keys = 200;
const client::block_layout layout{.descriptor = "chaos", .fingerprint = {3, 4}, .tokens = 64};

std::vector<std::byte> payload_of(const id128& key) {
  std::mt19937_64 random{key.low};
  std::vector<std::byte> bytes(20'000 + random() % 200'000);
  for (auto& b : bytes)
    b = static_cast<std::byte>(random());
  return bytes;
}

// Puts and gets without a pause, until it is stopped.
class load {
 public:
  explicit load(running_cluster& cluster) : connection_(cluster.connect()) {
    thread_ = std::jthread([this](const std::stop_token& stop) {
      std::mt19937_64 random{7};
      while (!stop.stop_requested())
        step(random);
    });
  }

  void stop() {
    thread_.request_stop();
    thread_.join();
  }

  // No put is under way, and none begins, until it is let go on.
  void hold_puts() {
    puts_held_ = true;
    putting_.lock();
  }
  void let_puts_go_on() {
    putting_.unlock();
    puts_held_ = false;
  }

  const std::set<id128>& acknowledged() const { return acknowledged_; }
  std::uint64_t wrong() const { return wrong_; }
  std::uint64_t gets() const { return gets_; }
  std::uint64_t failed_gets() const { return failed_gets_; }
  const std::string& last_failure() const { return last_failure_; }
  std::chrono::nanoseconds longest_get() const { return longest_get_; }

 private:
  void step(std::mt19937_64& random) {
    if (acknowledged_.size() < most_keys && random() % 4 == 0 && !puts_held_) {
      const std::lock_guard one_put{putting_};
      const id128 key{11, next_key_++};
      if (connection_.put(key, layout, payload_of(key))) acknowledged_.insert(key);
      return;
    }
    if (acknowledged_.empty()) return;
    const id128 key{11, random() % next_key_};
    const auto start = std::chrono::steady_clock::now();
    const auto got = connection_.get(key);
    longest_get_ = std::max<std::chrono::nanoseconds>(longest_get_, std::chrono::steady_clock::now() - start);
    ++gets_;
    if (got && got->bytes != payload_of(key)) ++wrong_;
    if (!got && acknowledged_.contains(key)) {
      ++failed_gets_;
      last_failure_ = to_string(got.error());
    }
  }

  client::connection connection_;
  std::set<id128> acknowledged_;
  std::uint64_t next_key_ = 0;
  std::uint64_t wrong_ = 0;
  std::uint64_t gets_ = 0;
  std::uint64_t failed_gets_ = 0;
  std::string last_failure_;
  std::chrono::nanoseconds longest_get_{};
  std::mutex putting_;
  std::atomic<bool> puts_held_ = false;
  std::jthread thread_;  // last: it uses the others
};

bool whole_again(running_cluster& cluster, std::chrono::seconds limit) {
  return cluster.wait_for(
      [](const client::cluster_status& s) {
        return s.nodes.size() == 4 &&
               std::all_of(s.nodes.begin(), s.nodes.end(), [](const auto& n) { return n.alive; });
      },
      limit);
}

// -1 where the node is not in the view just now.
std::int64_t blocks_of(const client::cluster_status& status, const std::string& name) {
  for (const auto& node : status.nodes) {
    if (node.name != name) continue;
    for (const auto& c : node.counters) {
      if (c.name == "storage.blocks") return c.value;
    }
  }
  return -1;
}

// Both storage nodes hold all there is: while nothing is put, equal numbers say so.
bool copied_again(running_cluster& cluster, std::chrono::seconds limit) {
  return cluster.wait_for(
      [](const client::cluster_status& s) {
        const auto one = blocks_of(s, "storage-1");
        return one > 0 && one == blocks_of(s, "storage-2");
      },
      limit);
}

unsigned rounds() {
  const char* many = std::getenv("WEFT_ROUNDS");
  return many != nullptr ? static_cast<unsigned>(std::strtoul(many, nullptr, 10)) : 4;
}

constexpr auto patience = std::chrono::seconds{60};

}  // namespace

TEST_CASE("nodes killed and frozen under load: nothing wrong, nothing lost") {
  const auto abandoned_before = launcher::abandoned_memory();
  running_cluster cluster{2};
  load clients{cluster};
  std::mt19937_64 random{std::random_device{}()};
  const char* const victims[] = {"storage-1", "storage-2", "prefill"};
  for (unsigned round = 0; round < rounds(); ++round) {
    const std::string victim = victims[random() % 3];
    const auto before = cluster.node(victim);
    const auto pid = static_cast<pid_t>(before.pid);
    CAPTURE(victim);
    if (random() % 2 == 0) {
      REQUIRE(kill(pid, SIGKILL) == 0);
      CHECK(cluster.wait_for(
          [&](const client::cluster_status& s) {
            return std::any_of(s.nodes.begin(), s.nodes.end(), [&](const auto& n) {
              return n.name == victim && n.incarnation > before.incarnation;
            });
          },
          patience));
    } else {
      REQUIRE(kill(pid, SIGSTOP) == 0);
      CHECK(cluster.wait_for([](const client::cluster_status& s) { return s.nodes.size() == 3; }, patience));
      REQUIRE(kill(pid, SIGCONT) == 0);
    }
    REQUIRE(whole_again(cluster, patience));
    clients.hold_puts();
    const bool copied = copied_again(cluster, patience);
    clients.let_puts_go_on();
    REQUIRE(copied);
  }
  clients.stop();
  CHECK(clients.wrong() == 0);
  CHECK(clients.gets() > 0);
  for (const auto& key : clients.acknowledged()) {
    const auto got = cluster.client().get(key);
    REQUIRE_MESSAGE(got, (got ? "" : to_string(got.error())));
    CHECK(got->bytes == payload_of(key));
  }
  MESSAGE("gets " << clients.gets() << ", without an answer " << clients.failed_gets() << " "
                  << clients.last_failure() << ", longest ms "
                  << std::chrono::duration_cast<std::chrono::milliseconds>(clients.longest_get()).count());
  CHECK(cluster.stop() == 0);
  CHECK(launcher::abandoned_memory_since(abandoned_before).empty());
}
