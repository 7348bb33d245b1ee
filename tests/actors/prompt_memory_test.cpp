// What sessions share of their prompts: the same logits as without, and never for a prompt that differs.
#include "prompt_memory.hpp"

#include <weft/engine/stitch.hpp>
#include <weft/policies/keys.hpp>

#include <doctest/doctest.h>

#include "decode/session_rows.hpp"
#include "small_models.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

using namespace weft;
using namespace weft::actors;
using namespace weft::engine::test;
using policies::document_source;
using policies::stitch_policy;
using tokens = std::vector<engine::token_id>;

namespace {

constexpr float exact = 1e-3F;
constexpr std::uint32_t answer_tokens = 8;
constexpr std::uint64_t plenty = 64 << 20;

manifest_ptr document_of(const tokens& ids) {
  auto m = std::make_shared<schema::manifest>();
  m->tokens = ids;
  m->document = policies::document_id({"tenant", {1, 2}}, ids);
  return m;
}

struct prompt {
  tokens opening = some_tokens(20, 1);
  std::vector<manifest_ptr> documents{document_of(some_tokens(40, 2)), document_of(some_tokens(23, 3)),
                                      document_of(some_tokens(31, 4))};
  std::vector<tokens> texts = {};
  std::vector<tokens> links = {};
  tokens question = some_tokens(9, 5);
  stitch_policy policy = stitch_policy::none;
  policies::key_scope scope{"tenant", {1, 2}};
  std::vector<std::uint32_t> bands{1, 1, 1};

  session_order order(const engine::kv_shape& shape) const {
    std::vector<policies::prompt_document> parts;
    for (const auto& m : documents)
      parts.push_back({m->tokens});
    auto plan = policies::plan_stitch(
        policy,
        {.opening = opening, .documents = parts, .question = question, .inserted = links, .texts = texts});
    REQUIRE_MESSAGE(plan, to_string(plan.error()));
    return session_for(
        {documents, std::span(bands).first(documents.size()),
         std::make_shared<const policies::stitch_plan>(std::move(*plan)), answer_tokens, policy, scope},
        shape, true);
  }
};

struct asked_logits {
  std::vector<float> logits;
  std::uint32_t reused = 0;
  std::uint32_t computed = 0;
  bool loaded = false;
};

class node {
 public:
  explicit node(std::uint64_t idle_bytes, std::uint64_t opening_bytes)
      : model_(std::make_shared<engine::runner>(load_fixture("llama"))),
        memory_(model_,
                {.limit_bytes = 0, .idle_base_bytes = idle_bytes, .idle_opening_bytes = opening_bytes}) {}

  asked_logits ask(const prompt& text) {
    const auto order = text.order(model_->cache_shape());
    REQUIRE(order.shares());
    asked_logits asked;
    {
      auto rows = memory_.open(order);
      REQUIRE_MESSAGE(rows, to_string(rows.error()));
      asked.loaded = !rows->loading.empty();
      if (asked.loaded) load(*rows->loading.front(), *order.plan, text);
      const auto done = memory_.complete(*rows, order);
      REQUIRE_MESSAGE(done, to_string(done.error()));
      engine::kv_cache own(rows->behind, order.capacity_rows);
      asked.logits.resize(model_->config().vocab_size);
      const auto last = static_cast<std::uint32_t>(order.plan->rows.size());
      const auto computed =
          engine::prefill_part(*model_, own, *order.plan, {rows->next_row, last}, asked.logits);
      REQUIRE_MESSAGE(computed, to_string(computed.error()));
      asked.reused = rows->reused_rows;
      asked.computed = last - rows->reused_rows;
    }
    memory_.tidy();
    return asked;
  }

  // In one cache and one pass.
  std::vector<float> at_once(const prompt& text) {
    const auto order = text.order(model_->cache_shape());
    engine::kv_cache cache(model_->cache_shape(), order.plan->prompt_tokens);
    REQUIRE(engine::reserve_computed_rows(cache, *order.plan));
    load(cache, *order.plan, text);
    std::vector<float> logits(model_->config().vocab_size);
    REQUIRE(engine::prefill(*model_, cache, *order.plan, logits));
    return logits;
  }

 private:
  void load(engine::kv_cache& cache, const policies::stitch_plan& plan, const prompt& text) {
    for (std::size_t i = 0; i < plan.documents.size(); ++i) {
      const auto& placed = plan.documents[i];
      if (placed.source == document_source::compute) continue;
      const auto encoded = engine::encode_document(*model_, text.documents[i]->tokens);
      REQUIRE(encoded);
      REQUIRE(engine::scatter_document(*model_, cache, *encoded, placed.start_position, placed.segment));
    }
  }

  std::shared_ptr<engine::runner> model_;
  prompt_memory memory_;
};

struct named_prompt {
  std::string name;
  prompt text;
};

// With and without a long opening, texts and links, under every policy.
std::vector<named_prompt> prompts() {
  std::vector<named_prompt> all;
  const std::vector<tokens> texts{some_tokens(18, 30), {}, some_tokens(5, 31), some_tokens(7, 32)};
  const auto add = [&](const std::string& name, const std::function<void(prompt&)>& change) {
    prompt text;
    change(text);
    all.push_back({name, text});
    text.texts = texts;
    all.push_back({name + " with texts", text});
    text.opening = some_tokens(2, 1);
    all.push_back({name + " with texts behind a short opening", std::move(text)});
  };
  add("none", [](prompt&) {});
  add("link", [](prompt& p) {
    p.policy = stitch_policy::link(6);
    p.links.assign(3, some_tokens(6, 40));
  });
  for (const auto& policy : {stitch_policy::epic(4), stitch_policy::random(300'000, 7),
                             stitch_policy::blend(250'000, 1), stitch_policy::full})
    add(policies::name_of(policy), [&](prompt& p) { p.policy = policy; });
  add("no document", [](prompt& p) {
    p.documents.clear();
    p.texts = {some_tokens(33, 30)};
  });
  all.resize(all.size() - 2);  // those would have texts between no documents
  return all;
}

std::set<id128> keys_of(const prompt& text) {
  const auto order = text.order({.layers = 2, .kv_heads = 2, .head_dim = 8});
  std::set<id128> keys;
  if (order.opening) keys.insert(order.opening->key);
  if (order.base) keys.insert(order.base->key);
  if (order.prefix) keys.insert(order.prefix->key);
  return keys;
}

}  // namespace

TEST_CASE("what is computed in front of a question serves the next one, bit for bit") {
  for (const auto& named : prompts()) {
    CAPTURE(named.name);
    const auto& first = named.text;
    auto next = first;
    next.question = some_tokens(12, 77);
    node forgetful(0, 0);
    node keeping(plenty, plenty);
    const auto fresh = forgetful.ask(next);
    CHECK(fresh.reused == 0);
    CHECK(distance(fresh.logits, forgetful.at_once(next)) <= exact);

    const auto before = keeping.ask(first);
    CHECK(before.reused == 0);
    const auto again = keeping.ask(next);
    CHECK(again.logits == fresh.logits);
    CHECK(again.computed == next.question.size());
    CHECK(again.reused == before.computed - first.question.size());
    CHECK(!again.loaded);
    CHECK(keeping.ask(first).logits == before.logits);
  }
}

TEST_CASE("an opening serves whatever documents stand behind it, and by it alone") {
  node keeping(0, plenty);
  prompt text;
  const auto opening = static_cast<std::uint32_t>(text.opening.size());
  CHECK(keeping.ask(text).reused == 0);
  CHECK(keeping.ask(text).reused == opening);
  auto other = text;
  other.documents = {text.documents[2]};
  other.policy = stitch_policy::epic(4);
  node forgetful(0, 0);
  const auto behind = keeping.ask(other);
  CHECK(behind.reused == opening);
  CHECK(behind.logits == forgetful.ask(other).logits);
  other.documents.clear();
  CHECK(keeping.ask(other).reused == opening);
  other.opening.back() ^= 1;
  CHECK(keeping.ask(other).reused == 0);
}

TEST_CASE("another order, text, policy, parameter, ratio, model or tenant is another prompt") {
  prompt text;
  text.texts = {some_tokens(18, 30), {}, some_tokens(5, 31), {}};
  text.policy = stitch_policy::epic(4);
  node keeping(plenty, plenty);
  node forgetful(0, 0);
  keeping.ask(text);
  const auto opening = static_cast<std::uint32_t>(text.opening.size());
  // Nothing but the opening is taken from the first prompt, where it is the same.
  const auto differs = [&](const char* how, const std::function<void(prompt&)>& change,
                           std::uint32_t reused) {
    CAPTURE(how);
    auto other = text;
    change(other);
    const auto asked = keeping.ask(other);
    CHECK(asked.reused == reused);
    CHECK(asked.loaded);
    CHECK(asked.logits == forgetful.ask(other).logits);
  };
  differs(
      "order", [](prompt& p) { std::swap(p.documents[0], p.documents[1]); }, opening);
  differs(
      "text", [](prompt& p) { p.texts[2].back() ^= 1; }, opening);
  differs(
      "place of a text", [](prompt& p) { std::swap(p.texts[1], p.texts[2]); }, opening);
  differs(
      "opening", [](prompt& p) { p.opening.front() ^= 1; }, 0);
  differs(
      "none", [](prompt& p) { p.policy = stitch_policy::none; }, opening);
  differs(
      "k", [](prompt& p) { p.policy = stitch_policy::epic(5); }, opening);
  differs(
      "random", [](prompt& p) { p.policy = stitch_policy::random(200'000, 1); }, opening);
  differs(
      "seed", [](prompt& p) { p.policy = stitch_policy::random(200'000, 2); }, opening);
  differs(
      "blend", [](prompt& p) { p.policy = stitch_policy::blend(200'000, 1); }, 0);
  differs(
      "layer", [](prompt& p) { p.policy = stitch_policy::blend(200'000, 0); }, 0);
  differs(
      "full", [](prompt& p) { p.policy = stitch_policy::full; }, opening);

  for (const auto& policy : {stitch_policy::none, stitch_policy::epic(4), stitch_policy::full}) {
    CAPTURE(policies::name_of(policy));
    text.policy = policy;
    auto elsewhere = text;
    elsewhere.scope.tenant_salt = "another";
    auto other_model = text;
    other_model.scope.fingerprint.low ^= 1;
    for (const auto& other : {elsewhere, other_model})
      for (const auto& key : keys_of(other))
        CHECK(!keys_of(text).contains(key));
    // The document's scoring, and its codecs, are part of its id; how much of it is read is not.
    auto less = text;
    less.bands[1] = 2;
    auto banded = std::make_shared<schema::manifest>(*text.documents[1]);
    banded->bands = {{.ratio = 0.5}, {.ratio = 1}};
    less.documents[1] = banded;
    std::set<id128> common;
    for (const auto& key : keys_of(less))
      if (keys_of(text).contains(key)) common.insert(key);
    CHECK(common.size() == 1);  // the opening's
  }
}

TEST_CASE("what does not fit any more goes, and is computed again to the same rows") {
  prompt first;
  first.opening = some_tokens(3, 1);
  first.policy = stitch_policy::epic(6);
  auto second = first;
  std::swap(second.documents[0], second.documents[2]);
  const auto shape = load_fixture("llama").cache_shape();
  const auto bytes =
      engine::kv_cache(shape, first.order(shape).base->parts[0].capacity_rows).allocated_bytes();
  node small(bytes + bytes / 2, 0);
  const auto a = small.ask(first);
  CHECK(small.ask(first).reused > 0);
  const auto b = small.ask(second);
  CHECK(b.reused == 0);
  const auto again = small.ask(first);  // the second one has taken its place
  CHECK(again.reused == 0);
  CHECK(again.logits == a.logits);
  CHECK(small.ask(first).reused > 0);
}

TEST_CASE("few rows are computed with the question, and documents are shared as ever") {
  prompt text;
  text.opening = some_tokens(3, 1);
  const auto order = text.order({.layers = 1, .kv_heads = 1, .head_dim = 8});
  CHECK(!order.opening);
  CHECK(!order.prefix);
  REQUIRE(order.base);
  CHECK(!order.base->computes);
  CHECK(order.capacity_rows.front() == text.opening.size() + text.question.size() + answer_tokens);
}
