// What tests ask of a group, and of the whole model beside it.
#pragma once

#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <cstdint>
#include <string>
#include <vector>

namespace weft::engine::test {

// A prefill with segments, then decode steps of two sessions.
inline std::vector<float> some_logits(runner& model) {
  kv_cache first(model.cache_shape(), 128), second(model.cache_shape(), 128);
  row_batch batch;
  add_rows(batch, some_tokens(30, 1), 0);
  add_rows(batch, some_tokens(20, 2), 30, 1);
  add_rows(batch, some_tokens(5, 3), 50);
  auto logits = run(model, batch, first);
  row_batch other;
  add_rows(other, some_tokens(7, 4), 0);
  const auto more = run(model, other, second);
  logits.insert(logits.end(), more.begin(), more.end());
  kv_cache* const caches[] = {&first, &second};
  for (std::int32_t step = 0; step < 3; ++step) {
    row_batch rows;
    rows.add(10 + step, 55 + step, 0, 0);
    rows.add(20 + step, 7 + step, 0, 1);
    rows.logits_rows = {0, 1};
    std::vector<float> next(std::size_t{2} * model.config().vocab_size);
    REQUIRE(model.forward(rows, caches, next));
    logits.insert(logits.end(), next.begin(), next.end());
  }
  return logits;
}

// A model, and sizes of groups that it can be cut for.
struct case_of_ranks {
  std::string model;
  std::vector<unsigned> ranks;
};

}  // namespace weft::engine::test
