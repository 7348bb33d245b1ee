// Attention that is counted on a device, and the scores by importance that are made of it, against the CPU's.
#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/policies/budget.hpp>

#include "../importance_reference.hpp"
#include "../random_surrogate.hpp"
#include "../small_models.hpp"
#include "../temporary_folder.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::column_count;
using weft::kernels::dtype;
using weft::policies::importance_policy;
using weft::policies::score_table;

namespace {

constexpr std::uint32_t chunk_rows = 67;

const repeat_prompt tail_prompt{{7, 8, 9}, {10, 11}, {12}, 5, hint_source::previous_tail};

struct scored_document {
  explicit scored_document(std::uint32_t count)
      : tokens(some_tokens(count, 3)),
        request{
            .tokens = tokens, .system_rows = 2, .repeat = &tail_prompt, .chunks = chunks_of(2, count, 90)} {}

  score_table scores(runner& model) const {
    row_scorer scorer(model);
    kv_cache cache(model.cache_shape(), scoring_capacity_rows(request));
    auto found = scorer.score(cache, request);
    REQUIRE_MESSAGE(found.has_value(), found.error().context);
    return std::move(*found);
  }

  std::vector<token_id> tokens;
  scoring_request request;
};

// Of the sets that keep a third of the rows.
double likeness_of_kept(const score_table& a, const score_table& b) {
  const auto kept = [](const score_table& scores) {
    std::vector<std::size_t> rows(scores.values.size());
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    std::ranges::stable_sort(rows, std::greater<>{}, [&](std::size_t row) { return scores.values[row]; });
    rows.resize(rows.size() / 3);
    std::ranges::sort(rows);
    return rows;
  };
  const auto left = kept(a);
  const auto right = kept(b);
  std::vector<std::size_t> both;
  std::ranges::set_intersection(left, right, std::back_inserter(both));
  return static_cast<double>(both.size()) / static_cast<double>(left.size() + right.size() - both.size());
}

constexpr float tolerance = 2e-2F;
constexpr float nothing = -1e3F;

// Counts some of the rows of caches whose batch rows come one cache after the other.
struct counting final : forward_observer {
  counting(const runner& model, std::uint32_t columns, const column_count& wanted, std::uint32_t caches)
      : heads(model.config().query_heads), all(columns), count(wanted) {
    largest.assign(caches, std::vector<float>(std::size_t{model.config().layers} * heads * columns,
                                              -std::numeric_limits<float>::infinity()));
  }
  shown_parts sees(std::uint32_t) const override { return {}; }
  bool counts_columns() const override { return true; }
  const column_count* columns_to_count(std::uint32_t layer, std::uint32_t first_row,
                                       std::uint32_t rows) override {
    now = count;
    const std::size_t cache = first_row == 0 ? 0 : 1;
    if (!count.log_weights.empty()) now.log_weights = count.log_weights.first(rows);
    now.found = largest[cache].data() + std::size_t{layer} * heads * all;
    now.stride = all;
    return &now;
  }

  std::size_t heads, all;
  column_count count, now;
  std::vector<std::vector<float>> largest;
};

// Logarithms, those of nothing as numbers, too.
std::vector<float> seen(std::vector<float> logs) {
  for (float& log : logs)
    log = std::max(log, nothing);
  return logs;
}

}  // namespace

TEST_CASE("kvzip and kvzip_plus score alike on a device") {
  if (!device_under_test()) return;
  for (const auto* const fixture : {"llama", "qwen3"})
    for (const auto type : {dtype::f16, dtype::bf16}) {
      CAPTURE(std::string(fixture));
      auto cpu = load_fixture(fixture, options_in_parts(nullptr, chunk_rows, type));
      auto there = load_fixture(fixture, options_in_parts(device_under_test(), chunk_rows, type));
      scored_document document(250);
      for (const auto policy : {importance_policy::kvzip, importance_policy::kvzip_plus})
        for (const bool repeated_only : {false, true}) {
          document.request.policy = policy;
          document.request.options.repeated_rows_only = repeated_only;
          const auto expected = document.scores(cpu);
          const auto found = document.scores(there);
          const float largest = *std::ranges::max_element(expected.values);
          REQUIRE(largest > 0);
          CHECK(distance(expected.values, found.values) <= tolerance * largest);
          // Queries are rounded to the rows' type.
          CHECK(likeness_of_kept(expected, found) >= (type == dtype::f16 ? 0.99 : 0.98));
        }
    }
}

TEST_CASE("h2o, snapkv and tova score alike on a device") {
  if (!device_under_test()) return;
  for (const auto* const fixture : {"llama", "qwen3"})
    for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
      CAPTURE(std::string(fixture));
      auto cpu = load_fixture(fixture, options_in_parts(nullptr, chunk_rows, type));
      auto there = load_fixture(fixture, options_in_parts(device_under_test(), chunk_rows, type));
      scored_document document(250);
      std::vector<std::int32_t> segments(document.tokens.size(), 1);
      std::fill(segments.begin(), segments.begin() + 20, 0);
      std::fill(segments.begin() + 120, segments.end(), 2);
      document.request.segments = segments;
      for (const auto policy : {importance_policy::h2o, importance_policy::snapkv, importance_policy::tova}) {
        CAPTURE(weft::policies::name_of(policy));
        document.request.policy = policy;
        document.request.options.window = 80;  // begins within a part of the pass
        const auto expected = document.scores(cpu);
        const auto found = document.scores(there);
        const float largest = *std::ranges::max_element(expected.values);
        REQUIRE(largest > 0);
        CHECK(distance(expected.values, found.values) <= tolerance * largest);
        CHECK(likeness_of_kept(expected, found) >= (type == dtype::bf16 ? 0.98 : 0.99));
      }
    }
}

TEST_CASE("kvzap scores alike on a device") {
  if (!device_under_test()) return;
  for (const auto* const fixture : {"llama", "qwen3"}) {
    const weft::test::temporary_folder folder;
    copy_fixture(fixture, folder.path());
    const auto load = [&](const runner_options& options) {
      auto loaded = runner::load(folder.path(), options);
      REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
      return std::move(*loaded);
    };
    // A part of a pass is guessed of 512 rows at once at most.
    for (const std::uint32_t rows : {chunk_rows, 2048U}) {
      auto cpu = load(options_in_parts(nullptr, rows));
      auto there = load(options_in_parts(device_under_test(), rows));
      scored_document document(rows == chunk_rows ? 250 : 1100);
      for (const auto kind : {surrogate_kind::linear, surrogate_kind::mlp}) {
        CAPTURE(name_of(kind));
        const std::size_t hidden = kind == surrogate_kind::linear ? 0 : 5;
        REQUIRE(write_surrogate(surrogate_file(folder.path(), kind), random_layers(cpu.config(), hidden, 9),
                                cpu));
        document.request.policy =
            kind == surrogate_kind::linear ? importance_policy::kvzap_linear : importance_policy::kvzap_mlp;
        const auto expected = document.scores(cpu);
        const auto found = document.scores(there);
        CHECK(distance(expected.values, found.values) <= tolerance);
        CHECK(likeness_of_kept(expected, found) >= 0.97);
      }
    }
  }
}

TEST_CASE("columns of several caches are counted in a pass on a device") {
  if (!device_under_test()) return;
  constexpr std::uint32_t context = 70;
  constexpr std::uint32_t asked = 9;
  auto cpu = load_fixture("llama", options_in_parts(nullptr, chunk_rows));
  auto there = load_fixture("llama", options_in_parts(device_under_test(), chunk_rows));
  row_batch question;
  for (const std::uint32_t cache : {0U, 1U})
    add_rows(question, some_tokens(asked, 20 + cache), context, 0, cache);
  question.logits_rows = {asked - 1, 2 * asked - 1};
  const auto weights = std::vector<float>{0.5F, -1, 0, 2, 1, -3, 0.25F, -0.5F, 0.75F};
  const column_count some{.counted = {{{1, 4}, {30, 66}}}, .beside = {66, 70 + asked}};
  const column_count weighed{
      .counted = {{{0, 0}, {5, 64}}}, .beside = {70, 72}, .first_query = 4, .log_weights = weights};
  const column_count first_only{.counted = {{{0, 10}, {10, 10}}}, .beside = {10, 10}, .first_query = 8};
  const column_count nobody{.counted = {{{0, 10}, {10, 10}}}, .beside = {10, 10}, .first_query = asked};
  for (const auto* const wanted : {&some, &weighed, &first_only, &nobody}) {
    const auto ask = [&](runner& model, counting& by) {
      std::vector<kv_cache> caches;
      for (const std::uint32_t seed : {1U, 2U}) {
        caches.emplace_back(model.cache_shape(), context + asked);
        row_batch rows;
        add_rows(rows, some_tokens(40, seed), 0, 1);
        add_rows(rows, some_tokens(30, seed + 7), 40, 2);
        run(model, rows, caches.back());
      }
      kv_cache* const both[] = {&caches[0], &caches[1]};
      std::vector<float> logits(2 * model.config().vocab_size);
      const auto done = model.forward(question, both, logits, &by);
      REQUIRE_MESSAGE(done.has_value(), done.error().context);
      return logits;
    };
    counting here(cpu, context, *wanted, 2), on_device(there, context, *wanted, 2);
    CHECK(distance(ask(cpu, here), ask(there, on_device)) <= tolerance);
    const std::size_t columns = wanted == &nobody ? 0 : wanted->counted[0].rows() + wanted->counted[1].rows();
    for (const std::size_t cache : {0U, 1U}) {
      const auto found = seen(on_device.largest[cache]);
      CHECK(distance(seen(here.largest[cache]), found) <= tolerance);
      CHECK(std::ranges::count_if(found, [](float log) { return log > nothing; }) ==
            columns * cpu.config().layers * cpu.config().query_heads);
    }
  }
}

TEST_CASE("what was counted before stays where it is larger") {
  if (!device_under_test()) return;
  auto there = load_fixture("llama", options_in_parts(device_under_test(), chunk_rows));
  kv_cache cache(there.cache_shape(), 64);
  row_batch rows;
  add_rows(rows, some_tokens(30, 1), 0, 1);
  run(there, rows, cache);
  counting by(there, 30, {.counted = {{{0, 30}, {30, 30}}}, .beside = {30, 36}}, 1);
  constexpr float high = 3.0F;
  by.largest[0][7] = high;
  row_batch question;
  add_rows(question, some_tokens(6, 2), 30);
  kv_cache* const caches[] = {&cache};
  REQUIRE(there.forward(question, caches, {}, &by));
  CHECK(by.largest[0][7] == high);
  CHECK(by.largest[0][8] < 1e-3F);
  CHECK(by.largest[0][8] > -100.0F);
}

TEST_CASE("columns of rows in a codec are counted beside a device") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_in_parts(nullptr, chunk_rows));
  auto there = load_fixture("llama", options_in_parts(device_under_test(), chunk_rows));
  kv_cache whole(cpu.cache_shape(), 60);
  row_batch rows;
  add_rows(rows, some_tokens(40, 14), 0, 1);
  run(cpu, rows, whole);
  weft::policies::kept_rows kept({whole.shape().layers, whole.shape().kv_heads, 40});
  std::ranges::fill(kept.kept, true);
  row_batch question;
  add_rows(question, some_tokens(6, 15), 40);
  question.logits_rows = {5};
  const auto ask = [&](runner& model, counting& by) {
    auto cache = copy_kept_rows(whole, kept, 10, weft::kernels::row_codec::int8);
    REQUIRE_MESSAGE(cache.has_value(), cache.error().context);
    std::vector<float> logits(model.config().vocab_size);
    kv_cache* const caches[] = {&*cache};
    const auto done = model.forward(question, caches, logits, &by);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    return logits;
  };
  const column_count wanted{.counted = {{{0, 30}, {30, 40}}}, .beside = {40, 46}};
  counting here(cpu, 40, wanted, 1), on_device(there, 40, wanted, 1);
  CHECK(distance(ask(cpu, here), ask(there, on_device)) <= 0.05F);
  CHECK(distance(seen(here.largest[0]), seen(on_device.largest[0])) <= tolerance);
}
