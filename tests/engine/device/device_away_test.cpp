// Documents whose keys and values come to a device alone: what it computes with them, how they come home, and
// who brings them.
#include <weft/block/layout.hpp>
#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/rows_away.hpp>
#include <weft/engine/shared_bases.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/policies/budget.hpp>
#include <weft/policies/stitch.hpp>

#include "two_documents.hpp"

#include <stdexcept>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::kernels::dtype;
using weft::kernels::row_codec;
using weft::policies::stitch_plan;
using weft::policies::stitch_policy;

namespace {

void check_lost(const weft::result<void>& outcome) {
  REQUIRE(!outcome);
  CHECK(outcome.error().code == errc::internal);
  CHECK_MESSAGE(outcome.error().context.find("load the documents again") != std::string::npos,
                outcome.error().context);
}

row_batch rows_behind(const two_documents& p, const stitch_plan& plan) {
  row_batch rows;
  add_rows(rows, p.question, static_cast<std::int32_t>(plan.prompt_tokens - plan.question_rows));
  rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  return rows;
}

// Guesses of either sign.
std::vector<surrogate_layer> signed_layers(const model_config& config) {
  std::vector<surrogate_layer> layers(config.layers);
  for (auto& layer : layers) {
    for (std::size_t i = 0; i < std::size_t{config.kv_heads} * config.hidden_size; ++i)
      layer.weights.push_back(static_cast<float>(i * 7919 % 101) / 50.0F - 1.0F);
    layer.bias.assign(config.kv_heads, 0);
  }
  return layers;
}

}  // namespace

TEST_CASE("documents that only a device has give the answer of those that are here, too, bit for bit") {
  if (!device_under_test()) return;
  for (const auto& cut : several_cuts())
    for (const std::uint32_t block_tokens : {2U, 32U}) {
      CAPTURE(cut.name);
      CAPTURE(block_tokens);
      two_documents p(cut.bands, block_tokens);
      const auto plan = p.plan();
      auto uploaded = p.here();
      auto away = p.away();
      CHECK(nothing_is_home(away));
      const auto brought = rows_away_of(*device_under_test()).brought_bytes.load();
      CHECK(answer(p.there, uploaded, plan) == answer(p.there, away, plan));
      CHECK(nothing_is_home(away));
      CHECK(rows_away_of(*device_under_test()).brought_bytes == brought);
      REQUIRE(away.bring_home());
      CHECK(away.is_home());
      CHECK(rows_away_of(*device_under_test()).brought_bytes > brought);
      CHECK(same_rows(uploaded, away));
    }
}

TEST_CASE("rows come home as the host would have written them") {
  if (!device_under_test()) return;
  two_documents p;
  auto expected = p.here();
  auto away = p.away();
  REQUIRE(away.bring_home());
  CHECK(same_rows(expected, away));
  // What the device has of them stays there.
  const auto plan = p.plan();
  CHECK(answer(p.there, expected, plan) == answer(p.there, away, plan));
}

TEST_CASE("layers that come one by one come to a device alone") {
  if (!device_under_test()) return;
  two_documents p;
  const auto plan = p.plan();
  auto uploaded = p.here();
  auto layered = p.empty();
  std::vector<float> expected(p.cpu.config().vocab_size), found(expected.size());
  REQUIRE(prefill(p.there, uploaded, plan, expected));
  REQUIRE(prefill_while_loading(
      p.there, layered, plan, p.blocks, [](std::uint32_t) { return weft::result<void>{}; }, found,
      loaded_rows::where_computed));
  CHECK(nothing_is_home(layered));
  CHECK(expected == found);
  REQUIRE(layered.bring_home());
  CHECK(same_rows(uploaded, layered));
}

TEST_CASE("who asks for rows that are not here is told of the mistake; their labels are here") {
  if (!device_under_test()) return;
  two_documents p;
  auto expected = p.here();
  auto away = p.away();
  const kv_cache& looked_at = away;
  CHECK_THROWS_AS((void)looked_at.k(0, 0), std::logic_error);
  CHECK_THROWS_AS((void)looked_at.v(1, 1), std::logic_error);
  CHECK_THROWS_AS((void)looked_at.run(1, 0), std::logic_error);
  CHECK_THROWS_AS((void)away.k(0, 1), std::logic_error);
  CHECK_THROWS_AS((void)away.v(0, 1), std::logic_error);
  for (std::uint32_t layer = 0; layer < away.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < away.shape().kv_heads; ++head) {
      const std::uint32_t rows = expected.rows(layer, head);
      REQUIRE(away.rows(layer, head) == rows);
      CHECK(std::equal(looked_at.positions(layer, head), looked_at.positions(layer, head) + rows,
                       expected.positions(layer, head)));
      CHECK(std::equal(looked_at.segments(layer, head), looked_at.segments(layer, head) + rows,
                       expected.segments(layer, head)));
    }
  away.truncate(0);
  CHECK(away.is_home());
  CHECK_NOTHROW((void)looked_at.k(0, 0));
}

TEST_CASE("where rows are needed here as well, they are here") {
  if (!device_under_test()) return;
  const auto answers_alike = [](two_documents& p, const stitch_plan& plan) {
    auto uploaded = p.loaded(p.cpu, plan, loaded_rows::here);
    auto staged = p.loaded(p.there, plan, loaded_rows::where_computed);
    CHECK(answer(p.there, uploaded, plan) == answer(p.there, staged, plan));
    REQUIRE(staged.bring_home());
    CHECK(same_rows(uploaded, staged));
  };
  SUBCASE("the plan computes rows of documents anew") {
    two_documents p;
    const auto plan = p.plan(stitch_policy::epic(10));
    CHECK(p.loaded(p.there, plan, loaded_rows::where_computed).is_home());
    answers_alike(p, plan);
  }
  SUBCASE("others stand behind them in the cache") {
    two_documents p;
    const std::vector<std::vector<token_id>> links{some_tokens(4, 8), {}};
    const auto plan = p.plan(stitch_policy::none, links);
    answers_alike(p, plan);  // the second document lies behind them
  }
  SUBCASE("prompts over f32 rows attend on the host") {
    two_documents p(two_bands, 32, dtype::f32);
    CHECK(p.away().is_home());
    answers_alike(p, p.plan());
  }
  SUBCASE("nobody said otherwise") {
    two_documents p;
    CHECK(p.loaded(p.there, p.plan(), loaded_rows::here).is_home());
  }
}

TEST_CASE("a model on the CPU brings home what it computes with") {
  if (!device_under_test()) return;
  two_documents p;
  const auto plan = p.plan();
  auto expected = p.here();
  auto away = p.away();
  CHECK(answer(p.cpu, expected, plan) == answer(p.cpu, away, plan));
  CHECK(same_rows(expected, away));
}

TEST_CASE("whoever copies rows, or looks at passes, finds them here") {
  if (!device_under_test()) return;
  two_documents p;
  const auto plan = p.plan();
  auto expected = p.here();
  auto away = p.away();
  SUBCASE("kept rows") {
    const weft::policies::score_shape shape{p.cpu.config().layers, p.cpu.config().kv_heads, 20};
    const auto kept = weft::policies::keep_rows(weft::policies::random_scores(shape, 3),
                                                {.ratio = weft::policies::decimal_ratio::from(0.3).value()});
    REQUIRE(kept);
    auto here = copy_kept_rows(expected, *kept, 4);
    auto there = copy_kept_rows(away, *kept, 4);
    REQUIRE(here);
    REQUIRE(there);
    CHECK(same_rows(*here, *there));
  }
  SUBCASE("an observer") {
    const auto rows = rows_behind(p, plan);
    std::vector<float> a(p.cpu.config().vocab_size), b(a.size());
    kv_cache* const uploaded[] = {&expected};
    kv_cache* const alone[] = {&away};
    recent_queries first(p.cpu.config(), 4), second(p.cpu.config(), 4);
    REQUIRE(p.there.forward(rows, uploaded, a, &first));
    REQUIRE(p.there.forward(rows, alone, b, &second));
    CHECK(a == b);
    CHECK(away.is_home());
    CHECK(same_rows(expected, away));
  }
  SUBCASE("a session that drops rows") {
    const auto layers = signed_layers(p.there.config());
    auto guesser = surrogate::make(layers, p.there);
    REQUIRE(guesser);
    const auto dropped_by_step = [&](kv_cache& cache) {
      pruned_decoding pruning(p.there, *guesser, 0.0F, 2);
      kv_cache* const caches[] = {&cache};
      std::vector<std::uint64_t> dropped;
      auto rows = rows_behind(p, plan);
      rows.logits_rows.clear();
      for (const token_id token : some_tokens(6, 11)) {
        REQUIRE(p.there.forward(rows, caches, {}, &pruning));
        dropped.push_back(pruning.end_pass(cache, rows.positions));
        const std::int32_t next = rows.positions.back() + 1;
        rows = {};
        rows.add(token, next, 0);
      }
      return dropped;
    };
    const auto dropped = dropped_by_step(expected);
    CHECK(dropped.front() > 0);
    CHECK(dropped_by_step(away) == dropped);
    CHECK(away.is_home());
    CHECK(same_rows(expected, away));
  }
  SUBCASE("rows that are compared") {
    row_batch rows;
    add_rows(rows, p.texts[0], 3, 1);
    add_rows(rows, p.question, 106);
    rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
    const row_selection selection{.layer = 1, .rows = 4, .candidates = {5, 9, 20, 31, 40, 60}};
    std::vector<float> a(p.cpu.config().vocab_size), b(a.size());
    const auto first = p.there.forward_selected(rows, expected, selection, a);
    const auto second = p.there.forward_selected(rows, away, selection, b);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(*first == *second);
    CHECK(a == b);
    CHECK(same_rows(expected, away));
  }
  SUBCASE("rows that move for others") {
    away.truncate(90);
    expected.truncate(90);
    const auto between = [&](kv_cache& cache) {
      row_batch rows;
      // Of band 0 alone not all positions are there.
      add_rows(rows, some_tokens(1, 9), 2, 1);
      add_rows(rows, p.question, 90);
      return run(p.there, rows, cache);
    };
    const auto thinned = [&](runner& model, loaded_rows wanted) {
      kv_cache cache = p.empty();
      auto blocks = p.placed(0, 3);
      for (auto& block : blocks)
        block.bands = 1;
      REQUIRE(scatter_blocks(model, cache, blocks, wanted));
      return cache;
    };
    auto a = thinned(p.cpu, loaded_rows::here);
    auto b = thinned(p.there, loaded_rows::where_computed);
    CHECK(!b.is_home());
    CHECK(between(a) == between(b));
    CHECK(b.is_home());
    CHECK(same_rows(a, b));
  }
  SUBCASE("a document that is encoded here") {
    const auto encoded = encode_document(p.cpu, p.question);
    REQUIRE(encoded);
    REQUIRE(scatter_document(p.cpu, expected, *encoded, 110, 2));
    REQUIRE(scatter_document(p.there, away, *encoded, 110, 2));
    CHECK(same_rows(expected, away));
  }
  SUBCASE("blocks over the same rows") {
    REQUIRE(scatter_blocks(p.cpu, expected, p.placed(1, 3)));
    REQUIRE(scatter_blocks(p.there, away, p.placed(1, 3), loaded_rows::where_computed));
    CHECK(away.is_home());
    CHECK(same_rows(expected, away));
    CHECK(answer(p.there, expected, plan) == answer(p.there, away, plan));
  }
}

TEST_CASE("sessions behind rows that only a device has") {
  if (!device_under_test()) return;
  two_documents p;
  const auto heads = p.head_rooms();
  const auto asked = [&](runner& loader, runner& model, loaded_rows wanted) {
    const auto base = std::make_shared<kv_cache>(p.empty());
    REQUIRE(scatter_blocks(loader, *base, p.placed(0, 0), wanted));
    REQUIRE(scatter_blocks(loader, *base, p.placed(1, 70), wanted));
    CHECK(base->is_home() == (wanted == loaded_rows::here));
    kv_cache first(base, heads), second(base, heads);
    row_batch rows;
    add_rows(rows, p.question, 103);
    std::vector<float> found = run(model, rows, first);
    run(model, rows, second);
    row_batch step;
    step.add(7, 112, 0, 0);
    step.add(8, 112, 0, 1);
    step.logits_rows = {0, 1};
    std::vector<float> next(2 * std::size_t{model.config().vocab_size});
    kv_cache* const caches[] = {&first, &second};
    REQUIRE(model.forward(step, caches, next));
    found.insert(found.end(), next.begin(), next.end());
    CHECK(base->is_home() == (wanted == loaded_rows::here || &model == &p.cpu));
    return found;
  };
  CHECK(asked(p.cpu, p.there, loaded_rows::here) == asked(p.there, p.there, loaded_rows::where_computed));
  CHECK(asked(p.cpu, p.cpu, loaded_rows::here) == asked(p.there, p.cpu, loaded_rows::where_computed));
}

TEST_CASE("of several caches the one in a codec has its rows here") {
  if (!device_under_test()) return;
  two_documents p(two_bands_in(row_codec::raw, row_codec::int8));
  const auto heads = p.head_rooms();
  const auto asked = [&](runner& loader, loaded_rows wanted) {
    auto shape = p.cpu.cache_shape();
    shape.coding = row_codec::int8;
    const auto raw = std::make_shared<kv_cache>(p.cpu.cache_shape(), heads);
    const auto coded = std::make_shared<kv_cache>(raw, shape, heads);
    kv_cache* const caches[] = {raw.get(), coded.get()};
    REQUIRE(scatter_blocks(loader, caches, p.placed(0, 0), wanted));
    REQUIRE(scatter_blocks(loader, caches, p.placed(1, 70), wanted));
    CHECK(raw->is_home() == (wanted == loaded_rows::here));
    CHECK(coded->is_home());
    kv_cache own(coded, heads);
    row_batch rows;
    add_rows(rows, p.question, 103);
    return run(p.there, rows, own);
  };
  CHECK(asked(p.cpu, loaded_rows::here) == asked(p.there, loaded_rows::where_computed));
}

TEST_CASE("rows that went with the only mirror that had them are lost, and everybody says so") {
  if (!device_under_test()) return;
  two_documents p;
  const auto plan = p.plan();
  const auto rows = rows_behind(p, plan);
  std::vector<float> logits(p.cpu.config().vocab_size);
  auto uploaded = p.here();
  const auto expected = answer(p.there, uploaded, plan);
  auto lost = std::make_shared<kv_cache>(p.away());
  shared_bases known(std::uint64_t{1} << 30U);
  known.insert({1, 1}, lost);
  CHECK(known.find({1, 1}) == lost);
  lost->keep_mirror(nullptr);
  CHECK(lost->is_lost());
  CHECK(known.find({1, 1}) == nullptr);
  CHECK(known.size() == 0);
  check_lost(lost->bring_home());
  kv_cache* const caches[] = {lost.get()};
  check_lost(p.there.forward(rows, caches, logits));
  check_lost(p.cpu.forward(rows, caches, logits));
  check_lost(scatter_blocks(p.there, *lost, p.placed(1, 110), loaded_rows::here));
  const auto heads = p.head_rooms();
  kv_cache behind(lost, heads);
  kv_cache* const sessions[] = {&behind};
  check_lost(p.there.forward(rows, sessions, logits));
  known.insert({2, 2}, std::make_shared<kv_cache>(lost, heads));
  CHECK(known.find({2, 2}) == nullptr);
  lost->truncate(0);
  CHECK(!lost->is_lost());
  REQUIRE(load_documents(p.there, *lost, plan, p.blocks, loaded_rows::where_computed));
  CHECK(answer(p.there, *lost, plan) == expected);
}
