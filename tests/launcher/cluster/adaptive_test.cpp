// A session whose passive rows lie in the pool of real processes, one of which is killed while it generates.
#include <weft/engine/adaptive/session.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/launcher/study/pool_passive_store.hpp>
#include <weft/policies/adaptive/atskv.hpp>

#include <doctest/doctest.h>

#include "running_cluster.hpp"
#include "shipped_model.hpp"

#include <chrono>
#include <csignal>
#include <functional>
#include <memory>
#include <vector>

using namespace weft;
using namespace weft::testing;
using launcher::study::pool_passive_store;
using launcher::study::shipped_contexts;
using launcher::study::shipped_model;

namespace {

constexpr std::size_t answer_tokens = 48;
constexpr std::size_t tokens_before_the_kill = 16;

// The first context of a set and its first question, by tokens.
struct asked_prompt {
  explicit asked_prompt(launcher::study::loaded_model& used) : model(used) {
    const auto context = shipped_contexts("late_512.jsonl", 1).front();
    for (const auto& document : context.documents) {
      const auto tokens = model.tokens.encode(document);
      prompt.insert(prompt.end(), tokens.begin(), tokens.end());
    }
    question = model.format.question(model.tokens, context.questions.front().text);
    whole = std::make_unique<engine::kv_cache>(model.runner.cache_shape(),
                                               static_cast<std::uint32_t>(prompt.size()));
    record = std::make_unique<engine::prompt_record>(model.runner, static_cast<std::uint32_t>(prompt.size()),
                                                     *whole, engine::prompt_record::options{.hidden = true});
    engine::row_batch batch;
    for (const auto token : prompt)
      batch.add(token, static_cast<std::int32_t>(batch.size()), 0);
    engine::kv_cache* const caches[] = {whole.get()};
    REQUIRE(model.runner.forward(batch, caches, {}, record.get()));
  }

  launcher::study::loaded_model& model;
  std::vector<engine::token_id> prompt, question;
  std::unique_ptr<engine::kv_cache> whole;
  std::unique_ptr<engine::prompt_record> record;
};

struct generated {
  std::vector<engine::token_id> tokens;
  engine::adaptive_counters before, after;  // the kill
};

// An answer of so many tokens, whatever they are; `in_between` is called in its middle.
generated generate(asked_prompt& asked, engine::passive_store& store,
                   const std::function<void()>& in_between) {
  namespace adaptive = policies::adaptive;
  auto& runner = asked.model.runner;
  const auto shape = engine::session_shape_of(runner.config());
  auto policy = adaptive::make_atskv(
      shape, {.rows = static_cast<std::uint32_t>(asked.prompt.size() / 5)},
      std::make_shared<adaptive::relevance_predictor>(adaptive::attention_predictor(shape)));
  REQUIRE(policy);
  engine::row_page_pool pool(runner.cache_shape());
  engine::adaptive_session session(runner, pool, std::move(*policy), &store);
  REQUIRE(session.start(*asked.whole, *asked.record, {}));
  std::vector<float> logits(runner.config().vocab_size);
  const auto step = [&](engine::token_id token) {
    const auto done = session.step(token, 0, logits);
    REQUIRE_MESSAGE(done, to_string(done.error()));
  };
  for (const auto token : asked.question)
    step(token);
  generated made;
  while (made.tokens.size() < answer_tokens) {
    if (made.tokens.size() == tokens_before_the_kill) {
      made.before = session.counters();
      in_between();
    }
    made.tokens.push_back(engine::greedy_token(logits));
    step(made.tokens.back());
  }
  made.after = session.counters();
  return made;
}

}  // namespace

TEST_CASE("a holder of passive rows is killed in the middle of an answer") {
  auto model = shipped_model("auto");
  asked_prompt asked(model);
  engine::local_passive_store here;
  const auto undisturbed = generate(asked, here, [] {});
  CHECK(undisturbed.after.pages_lost == 0);
  // There is something to lose: pages come back behind the kill, too.
  REQUIRE(undisturbed.after.pages_promoted > undisturbed.before.pages_promoted);

  const auto with_kill = [&](unsigned replicas) {
    running_cluster cluster{replicas};
    auto connection = cluster.connect();
    pool_passive_store store(connection, 99, std::chrono::seconds(20));
    const auto made = generate(asked, store, [&] {
      CHECK(store.flush() == 0);
      cluster.signal("storage-1", SIGKILL);
    });
    CHECK(made.before.pages_lost == 0);
    CHECK(made.before.pages_promoted > 0);
    CHECK(cluster.stop() == 0);
    return made;
  };

  SUBCASE("of two: the other one serves, and no token differs") {
    const auto made = with_kill(2);
    CHECK(made.after.pages_lost == 0);
    CHECK(made.tokens == undisturbed.tokens);
    CHECK(made.after.pages_promoted == undisturbed.after.pages_promoted);
  }
  SUBCASE("of one: the session goes on without its pages, and counts them") {
    const auto made = with_kill(1);
    CHECK(made.tokens.size() == answer_tokens);
    CHECK(made.after.pages_lost > 0);
  }
}
