#include <doctest/doctest.h>

#include "scripted_backend.hpp"

#include <random>

using namespace weft;
using launcher::gateway::testing::running_gateway;

namespace {

std::vector<std::byte> random_bytes(std::size_t size) {
  std::mt19937 random(size);
  std::vector<std::byte> bytes(size);
  for (auto& b : bytes)
    b = static_cast<std::byte>(random());
  return bytes;
}

}  // namespace

TEST_CASE("a block comes back as it was put, at sizes around the chunk's") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  const client::block_layout layout{std::string("vllm\0bf16", 9), {5, 6}, 64};
  std::uint64_t number = 0;
  for (const std::size_t size : {1u, 262'143u, 262'144u, 262'145u, 5'000'001u}) {
    const id128 key{++number, size};
    const auto bytes = random_bytes(size);
    REQUIRE(cluster.put(key, layout, bytes));
    const auto back = cluster.get(key);
    REQUIRE(back);
    CHECK(back->layout == layout);
    CHECK(back->bytes == bytes);
  }
}

TEST_CASE("a lookup answers each key in its place") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  REQUIRE(cluster.put({7, 7}, {}, random_bytes(100)));
  const std::vector<id128> keys{{1, 1}, {7, 7}, {1, 1}};
  const auto found = cluster.lookup(keys);
  REQUIRE(found);
  CHECK(*found == std::vector<client::block_info>{
                      {{1, 1}, false, 0, {}}, {{7, 7}, true, 100, {"storage-1"}}, {{1, 1}, false, 0, {}}});
  CHECK(cluster.lookup({}).value().empty());
  const std::vector<id128> many(schema::limits::keys, id128{9, 9});
  CHECK(cluster.lookup(many).value().size() == many.size());
  const std::vector<id128> too_many(schema::limits::keys + 1);
  CHECK(cluster.lookup(too_many).error().code == errc::invalid_argument);
}

TEST_CASE("no such block, and no block that may not be") {
  running_gateway gateway;
  auto cluster = gateway.connect();
  CHECK(cluster.get({1, 2}).error().code == errc::not_found);
  CHECK(cluster.put({1, 2}, {}, {}).error().code == errc::invalid_argument);
  client::block_layout layout;
  layout.descriptor.resize(schema::limits::layout_bytes + 1);
  CHECK(cluster.put({1, 2}, layout, random_bytes(1)).error().code == errc::invalid_argument);
}
