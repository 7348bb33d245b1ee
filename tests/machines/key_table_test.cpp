#include <weft/machines/key_table.hpp>

#include <doctest/doctest.h>

#include "builders.hpp"
#include "seeds.hpp"

#include <unordered_map>

namespace weft::machines::test {
namespace {

struct numbered {
  id128 key;
  std::uint64_t number = 0;
};

}  // namespace

TEST_CASE("a key table holds what a map holds") {
  for_each_seed(60, [](random_source& random) {
    key_table<numbered> table;
    std::unordered_map<id128, std::uint64_t> model;
    const std::uint64_t keys = random.between(1, 5'000);
    const std::uint64_t inserts = random.between(20, 80);  // of 100 operations
    for (int i = 0; i < 20'000; ++i) {
      const id128 key = key_of(random.below(keys));
      if (random.percent(inserts)) {
        table.find_or_insert(key).number = model[key] = random.any();
      } else {
        REQUIRE(table.erase(key) == (model.erase(key) != 0));
      }
      const id128 other = key_of(random.below(keys));
      const numbered* found = table.find(other);
      const auto expected = model.find(other);
      REQUIRE((found != nullptr) == (expected != model.end()));
      if (found != nullptr) REQUIRE(found->number == expected->second);
    }
    REQUIRE(table.size() == model.size());

    for (std::size_t s = 0; s < table.segment_count; ++s) {
      table.erase_if_in(s, [](numbered& e) { return e.number % 2 == 0; });
    }
    std::erase_if(model, [](const auto& item) { return item.second % 2 == 0; });
    REQUIRE(table.size() == model.size());
    for (const auto& [key, number] : model) {
      REQUIRE(table.find(key) != nullptr);
      REQUIRE(table.find(key)->number == number);
    }
    std::size_t visited = 0;
    table.for_each([&](const numbered& e) {
      ++visited;
      REQUIRE(model.at(e.key) == e.number);
    });
    REQUIRE(visited == model.size());
  });
}

TEST_CASE("keys that differ in few bits are told apart and found quickly enough") {
  key_table<numbered> table;
  for (std::uint64_t n = 1; n <= 100'000; ++n)
    table.find_or_insert({0, n}).number = n;
  for (std::uint64_t n = 1; n <= 100'000; ++n)
    REQUIRE(table.find({0, n})->number == n);
  CHECK(table.find({1, 1}) == nullptr);
  CHECK(table.size() == 100'000);
}

TEST_CASE("memory follows the number of entries down, too") {
  key_table<numbered> table;
  for (std::uint64_t n = 0; n < 100'000; ++n)
    table.find_or_insert(key_of(n));
  const std::size_t full = table.bytes();
  for (std::uint64_t n = 0; n < 99'000; ++n)
    table.erase(key_of(n));
  CHECK(table.bytes() < full / 8);
}

}  // namespace weft::machines::test
