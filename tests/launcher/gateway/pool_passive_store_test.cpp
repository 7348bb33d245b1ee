#include <weft/launcher/study/pool_passive_store.hpp>

#include <doctest/doctest.h>

#include "scripted_backend.hpp"

#include <memory>
#include <optional>
#include <random>

using namespace weft;
using launcher::gateway::testing::running_gateway;
using launcher::study::pool_passive_store;

namespace {

using namespace std::chrono_literals;

std::vector<std::byte> page_of(std::uint64_t number, std::size_t size = 3000) {
  std::mt19937_64 random(number);
  std::vector<std::byte> bytes(size);
  for (auto& b : bytes)
    b = static_cast<std::byte>(random());
  return bytes;
}

// The pages' bytes, empty where there is none.
std::vector<std::vector<std::byte>> fetch(pool_passive_store& store,
                                          const std::vector<std::uint64_t>& pages) {
  store.begin(pages);
  std::vector<std::vector<std::byte>> bytes;
  for (const auto page : store.wait())
    bytes.emplace_back(page.begin(), page.end());
  CHECK(store.arrived());
  return bytes;
}

}  // namespace

TEST_CASE("pages come back from the pool, also before they are there") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  pool_passive_store store(cluster, 77, 10s);
  for (std::uint64_t page = 0; page < 40; ++page)
    REQUIRE(store.put(page, page_of(page)));
  CHECK(fetch(store, {39, 0, 12}) == std::vector{page_of(39), page_of(0), page_of(12)});
  CHECK(store.flush() == 0);
  CHECK(fetch(store, {3, 39}) == std::vector{page_of(3), page_of(39)});
  // They lie in the pool, where another session of the same number would find them.
  CHECK(cluster.get({77, 39}).value().bytes == page_of(39));
}

TEST_CASE("a page that nobody has is missing") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  pool_passive_store store(cluster, 5, 10s);
  REQUIRE(store.put(1, page_of(1, 100)));
  REQUIRE(store.put(2, page_of(2)));
  CHECK(store.flush() == 0);
  CHECK(fetch(store, {1, 2, 9}) == std::vector{page_of(1, 100), page_of(2), {}});
  CHECK(fetch(store, {2}).at(0) == page_of(2));
}

TEST_CASE("a cluster that goes away costs pages, not the session") {
  std::optional<running_gateway> gateway(std::in_place);
  auto cluster = gateway->connect();
  pool_passive_store store(cluster, 6, 2s);
  REQUIRE(store.put(1, page_of(1)));
  CHECK(store.flush() == 0);
  gateway.reset();
  CHECK(fetch(store, {1}) == std::vector<std::vector<std::byte>>(1));
  REQUIRE(store.put(2, page_of(2)));
  CHECK(store.flush() == 1);
}
