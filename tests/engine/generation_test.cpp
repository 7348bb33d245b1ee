#include <weft/engine/generation.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <map>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

struct started {
  kv_cache cache;
  std::int32_t next_position;
  std::vector<float> logits;
};

started start(runner& model, std::size_t prompt_tokens, std::uint32_t seed, std::uint32_t capacity = 256) {
  row_batch prompt;
  add_rows(prompt, some_tokens(prompt_tokens, seed, 1000), 0);
  kv_cache cache(model.cache_shape(), capacity);
  auto logits = run(model, prompt, cache);
  return {std::move(cache), static_cast<std::int32_t>(prompt_tokens), std::move(logits)};
}

generated_token add(decode_batch& batch, session_id id, started s, const generation_options& options) {
  const auto first = batch.add(id, std::move(s.cache), s.next_position, s.logits, options);
  REQUIRE(first);
  return *first;
}

// Steps until nobody runs; the tokens by session.
void finish_all(decode_batch& batch, std::map<session_id, std::vector<token_id>>& tokens) {
  while (batch.active() > 0) {
    const auto step = batch.step();
    REQUIRE(step);
    for (const auto& generated : *step)
      tokens[generated.session].push_back(generated.token);
  }
}

std::vector<token_id> generated_alone(runner& model, std::size_t prompt_tokens, std::uint32_t seed,
                                      const generation_options& options) {
  decode_batch batch(model);
  std::map<session_id, std::vector<token_id>> tokens;
  tokens[1] = {add(batch, 1, start(model, prompt_tokens, seed), options).token};
  finish_all(batch, tokens);
  return tokens[1];
}

}  // namespace

TEST_CASE("sessions that come and go generate what they would alone") {
  auto model = load_recall({.threads = 2});
  const generation_options greedy{.sampled = {}, .stop_tokens = {}, .max_tokens = 12};
  const generation_options drawn{
      .sampled = {.temperature = 1, .top_p = 0.9F, .seed = 5}, .stop_tokens = {}, .max_tokens = 20};
  decode_batch batch(model);
  std::map<session_id, std::vector<token_id>> tokens;
  tokens[1] = {add(batch, 1, start(model, 50, 1), greedy).token};
  tokens[2] = {add(batch, 2, start(model, 9, 2), drawn).token};
  for (int i = 0; i < 4; ++i) {
    const auto step = batch.step();
    REQUIRE(step);
    CHECK(step->size() == 2);
    for (const auto& generated : *step)
      tokens[generated.session].push_back(generated.token);
  }
  tokens[3] = {add(batch, 3, start(model, 120, 3), greedy).token};
  finish_all(batch, tokens);
  CHECK(tokens[1] == generated_alone(model, 50, 1, greedy));
  CHECK(tokens[2] == generated_alone(model, 9, 2, drawn));
  CHECK(tokens[3] == generated_alone(model, 120, 3, greedy));
  CHECK(tokens[1].size() == 12);
  CHECK(tokens[2].size() == 20);
  CHECK(batch.sessions() == 3);
}

TEST_CASE("a session ends at a stop token, its limit or a full cache") {
  auto model = load_recall({.threads = 2});
  const generation_options unlimited{.sampled = {}, .stop_tokens = {}, .max_tokens = 100};
  const auto all = generated_alone(model, 30, 7, unlimited);
  REQUIRE(all.size() == 100);

  decode_batch batch(model);
  auto stopping = unlimited;
  stopping.stop_tokens = {1279, all[0]};
  CHECK(add(batch, 1, start(model, 30, 7), stopping).state == finish::stop_token);
  auto single = unlimited;
  single.max_tokens = 1;
  CHECK(add(batch, 2, start(model, 30, 7), single).state == finish::max_tokens);
  CHECK(batch.active() == 0);
  const auto idle = batch.step();
  REQUIRE(idle);
  CHECK(idle->empty());

  CHECK(add(batch, 3, start(model, 30, 7, 33), unlimited).state == finish::running);
  finish last = finish::running;
  std::vector<token_id> tokens{all[0]};
  while (last == finish::running) {
    const auto step = batch.step();
    REQUIRE(step);
    REQUIRE(step->size() == 1);
    tokens.push_back(step->front().token);
    last = step->front().state;
  }
  CHECK(last == finish::cache_full);
  CHECK(tokens == std::vector<token_id>(all.begin(), all.begin() + 4));
}

TEST_CASE("a removed session gives its cache back") {
  auto model = load_recall({.threads = 2});
  decode_batch batch(model);
  add(batch, 4, start(model, 20, 9), {});
  REQUIRE(batch.step());
  REQUIRE(batch.step());
  const auto cache = batch.remove(4);
  REQUIRE(cache);
  CHECK(cache->rows(0, 0) == 22);
  CHECK(batch.sessions() == 0);
  CHECK(batch.remove(4).error().code == errc::not_found);
}

TEST_CASE("wrong sessions are refused") {
  auto model = load_recall({.threads = 2});
  decode_batch batch(model);
  add(batch, 1, start(model, 5, 1), {});
  const auto code_of = [&](session_id id, const generation_options& options) {
    auto s = start(model, 5, 1);
    const auto added = batch.add(id, std::move(s.cache), s.next_position, s.logits, options);
    return added ? errc::ok : added.error().code;
  };
  CHECK(code_of(1, {}) == errc::invalid_argument);
  CHECK(code_of(2, {.sampled = {}, .stop_tokens = {}, .max_tokens = 0}) == errc::invalid_argument);
  CHECK(code_of(2, {.sampled = {.temperature = -1, .top_p = 1, .seed = 0}, .stop_tokens = {}}) ==
        errc::invalid_argument);
  CHECK(code_of(2, {.sampled = {.temperature = 1, .top_p = 0, .seed = 0}, .stop_tokens = {}}) ==
        errc::invalid_argument);
  CHECK(batch.sessions() == 1);
}
