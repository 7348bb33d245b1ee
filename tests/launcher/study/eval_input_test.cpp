#include "eval_input.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>

using weft::launcher::study::eval_input;
using weft::launcher::study::read_sets;

namespace {

eval_input shipped(std::size_t limit, std::size_t questions) {
  const std::filesystem::path sets = WEFT_SOURCE_DIR "/models/sets";
  eval_input input;
  input.sets = {sets / "hop_512.jsonl", sets / "kv_512.jsonl"};
  input.limit = limit;
  input.questions = questions;
  return input;
}

}  // namespace

TEST_CASE("the first contexts of each set, and the first questions of each context") {
  const auto all = read_sets(shipped(0, 0));
  const auto some = read_sets(shipped(3, 4));
  REQUIRE(all);
  REQUIRE(some);
  REQUIRE(some->size() == 2);
  for (std::size_t set = 0; set < 2; ++set) {
    CHECK((*all)[set].contexts.size() == 50);
    REQUIRE((*some)[set].contexts.size() == 3);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto& asked = (*some)[set].contexts[i].questions;
      const auto& given = (*all)[set].contexts[i].questions;
      REQUIRE(asked.size() == std::min<std::size_t>(given.size(), 4));
      for (std::size_t q = 0; q < asked.size(); ++q)
        CHECK(asked[q].text == given[q].text);
    }
  }
}
