// A device that fails amid what it was given, at each of its copies and kernels.
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/stitch.hpp>

#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_options.hpp"

#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::device::failing;
using weft::device::host_device;

namespace {

constexpr std::uint32_t room = 64;
constexpr std::int32_t context_rows = 20;
constexpr float tolerance = 2e-2F;

// A model on a device that fails when it is told to, beside the same one on the CPU.
struct fragile {
  fragile() : cpu(load_fixture("llama", options_on(nullptr))), there(load_fixture("llama", options_on(on))) {}

  host_device& device() const { return dynamic_cast<host_device&>(*on->memory); }

  // Rows that the device has not.
  kv_cache context(std::uint32_t seed) {
    kv_cache cache(cpu.cache_shape(), room);
    row_batch rows;
    add_rows(rows, some_tokens(context_rows, seed), 0, 1);
    run(cpu, rows, cache);
    return cache;
  }

  static row_batch question() {
    row_batch rows;
    add_rows(rows, some_tokens(6, 3), context_rows);
    rows.logits_rows = {5};
    return rows;
  }

  weft::result<void> ask(const row_batch& rows, std::span<kv_cache* const> caches) {
    std::vector<float> logits(rows.logits_rows.size() * there.config().vocab_size);
    return there.forward(rows, caches, logits);
  }

  // Copies and kernels of what `pass` does.
  template <class Pass>
  std::uint64_t works(const Pass& pass) const {
    const auto before = device().counts().works();
    pass();
    return device().counts().works() - before;
  }

  std::shared_ptr<const compute_device> on = host_compute_device(std::size_t{64} << 20U);
  runner cpu, there;
};

// A prompt of one document out of blocks.
struct stored_prompt {
  explicit stored_prompt(fragile& f, std::uint32_t block_tokens = 16)
      : document(encoded(f.cpu, block_tokens)),
        blocks{document.blocks()},
        plan(planned()),
        expected(f.cpu.config().vocab_size) {
    auto cache = empty(f);
    REQUIRE(load_documents(f.cpu, cache, plan, blocks));
    REQUIRE(prefill(f.cpu, cache, plan, expected));
  }

  stored_document encoded(runner& model, std::uint32_t block_tokens) const {
    const auto rows = encode_document(model, text);
    REQUIRE(rows);
    return {*rows, block_tokens, two_bands};
  }
  weft::policies::stitch_plan planned() const {
    const std::vector<weft::policies::prompt_document> listed{{text, true}};
    auto made = plan_stitch(weft::policies::stitch_policy::none, {opening, listed, question});
    REQUIRE(made);
    return std::move(*made);
  }
  static kv_cache empty(const fragile& f) { return {f.cpu.cache_shape(), room}; }

  weft::result<void> load(fragile& f, kv_cache& cache, loaded_rows wanted = loaded_rows::here) const {
    return load_documents(f.there, cache, plan, blocks, wanted);
  }
  weft::result<void> load_layers(fragile& f, kv_cache& cache, std::vector<float>& logits,
                                 loaded_rows wanted = loaded_rows::here) const {
    return prefill_while_loading(
        f.there, cache, plan, blocks, [](std::uint32_t) { return weft::result<void>{}; }, logits, wanted);
  }
  // Of the documents; the first row of the question is next.
  std::int32_t end() const { return static_cast<std::int32_t>(plan.prompt_tokens - plan.question_rows); }
  void check_answer(fragile& f, kv_cache& cache) const {
    std::vector<float> found(expected.size());
    REQUIRE(prefill(f.there, cache, plan, found));
    CHECK(distance(expected, found) <= tolerance);
  }

  std::vector<token_id> opening = some_tokens(3, 1), text = some_tokens(36, 2), question = some_tokens(5, 4);
  stored_document document;
  std::vector<document_blocks> blocks;
  weft::policies::stitch_plan plan;
  std::vector<float> expected;
};

void check_told(const weft::result<void>& outcome) {
  REQUIRE(!outcome);
  CHECK(outcome.error().code == errc::internal);
  CHECK_MESSAGE(outcome.error().context.find("the host's device") != std::string::npos,
                outcome.error().context);
}

}  // namespace

TEST_CASE("a pass that fails anywhere says so, and what comes then is right") {
  fragile f;
  auto known = f.context(1);
  const auto expected = run(f.cpu, fragile::question(), known);
  auto counted = f.context(1);
  const auto works = f.works([&] { run(f.there, fragile::question(), counted); });
  REQUIRE(works > 20);
  const auto free_bytes = f.device().sizes().free_bytes;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    auto cache = f.context(1);
    kv_cache* const caches[] = {&cache};
    f.device().fail_at(n, failing::once);
    check_told(f.ask(fragile::question(), caches));
    cache.truncate(context_rows);
    CHECK(distance(expected, run(f.there, fragile::question(), cache)) <= tolerance);
    auto next = f.context(1);
    CHECK(distance(expected, run(f.there, fragile::question(), next)) <= tolerance);
  }
  CHECK(f.device().sizes().free_bytes == free_bytes);
}

TEST_CASE("a step that fails leaves none of its sessions with rows that the device never got") {
  fragile f;
  row_batch step;
  for (std::uint32_t i = 0; i < 2; ++i) {
    step.add(7, context_rows, 0, i);
    step.logits_rows.push_back(i);
  }
  const auto with_two = [&](const auto& use) {
    auto first = f.context(1);
    auto second = f.context(2);
    kv_cache* const caches[] = {&first, &second};
    use(caches);
  };
  std::vector<float> expected(2 * f.cpu.config().vocab_size), found(expected.size());
  std::uint64_t works = 0;
  with_two([&](const auto& caches) { REQUIRE(f.cpu.forward(step, caches, expected)); });
  with_two(
      [&](const auto& caches) { works = f.works([&] { REQUIRE(f.there.forward(step, caches, found)); }); });
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    with_two([&](const auto& caches) {
      f.device().fail_at(n, failing::once);
      check_told(f.there.forward(step, caches, found));
      for (auto* cache : caches)
        cache->truncate(context_rows);
      REQUIRE(f.there.forward(step, caches, found));
      CHECK(distance(expected, found) <= tolerance);
    });
  }
}

TEST_CASE("rows that end halfway, on a device that fails") {
  fragile f;
  row_batch rows;
  add_rows(rows, some_tokens(context_rows, 4), 0);
  rows.logits_rows = {context_rows - 1};
  const row_selection selection{.layer = 1, .rows = 3, .candidates = {2, 3, 5, 7, 11, 13}};
  std::vector<float> expected(f.cpu.config().vocab_size), found(expected.size());
  auto known = f.context(1);
  REQUIRE(f.cpu.forward_selected(rows, known, selection, expected));
  auto counted = f.context(1);
  const auto works = f.works([&] { REQUIRE(f.there.forward_selected(rows, counted, selection, found)); });
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    auto cache = f.context(1);
    f.device().fail_at(n, failing::once);
    const auto outcome = f.there.forward_selected(rows, cache, selection, found);
    REQUIRE(!outcome);
    CHECK(outcome.error().code == errc::internal);
    auto next = f.context(1);
    REQUIRE(f.there.forward_selected(rows, next, selection, found));
    CHECK(distance(expected, found) <= tolerance);
  }
}

TEST_CASE("a document is scored right behind a device that failed at any time while it was scored") {
  fragile f;
  const auto text = some_tokens(24, 5);
  const repeat_prompt prompt{{7, 8}, {}, {9}, 3, hint_source::previous_tail};
  const scoring_request request{.tokens = text, .repeat = &prompt, .chunks = chunks_of(0, 24, 12)};
  row_scorer here(f.cpu), scorer(f.there);
  kv_cache known(f.cpu.cache_shape(), room);
  const auto expected = here.score(known, request);
  REQUIRE(expected);
  const auto check_scores = [&](kv_cache& cache) {
    const auto found = scorer.score(cache, request);
    REQUIRE_MESSAGE(found.has_value(), found.error().context);
    CHECK(distance(expected->values, found->values) <= tolerance);
  };
  const auto scored_once = [&] {
    kv_cache cache(f.cpu.cache_shape(), room);
    check_scores(cache);
  };
  scored_once();  // memory grows
  const auto works = f.works(scored_once);
  const auto free_bytes = f.device().sizes().free_bytes;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    kv_cache cache(f.cpu.cache_shape(), room);
    f.device().fail_at(n, failing::once);
    const auto failed = scorer.score(cache, request);
    REQUIRE(!failed);
    CHECK(failed.error().code == errc::internal);
    cache.truncate(0);
    check_scores(cache);
  }
  CHECK(f.device().sizes().free_bytes == free_bytes);
}

TEST_CASE("a device that is lost says so each time, until it is back") {
  fragile f;
  auto known = f.context(1);
  const auto expected = run(f.cpu, fragile::question(), known);
  auto cache = f.context(1);
  kv_cache* const caches[] = {&cache};
  f.device().fail_at(9, failing::from_then_on);
  for (int i = 0; i < 3; ++i) {
    check_told(f.ask(fragile::question(), caches));
    cache.truncate(context_rows);
  }
  auto other = f.context(2);
  kv_cache* const others[] = {&other};
  check_told(f.ask(fragile::question(), others));
  f.device().fail_no_more();
  CHECK(distance(expected, run(f.there, fragile::question(), cache)) <= tolerance);
}

TEST_CASE("sessions and models of a lost device go without a trace") {
  const auto on = host_compute_device(std::size_t{64} << 20U);
  auto& device = dynamic_cast<host_device&>(*on->memory);
  {
    auto model = load_fixture("llama", options_on(on));
    kv_cache cache(model.cache_shape(), room);
    run(model, fragile::question(), cache);
    device.fail_at(5, failing::from_then_on);
    kv_cache* const caches[] = {&cache};
    std::vector<float> logits(model.config().vocab_size);
    CHECK(!model.forward(fragile::question(), caches, logits));
  }
  CHECK(device.sizes().free_bytes == device.sizes().total_bytes);
}

TEST_CASE("a model that cannot be brought to a device is no model, and keeps no memory there") {
  const std::string folder = std::string(WEFT_SOURCE_DIR) + "/tests/fixtures/llama";
  const auto on = host_compute_device(std::size_t{64} << 20U);
  auto& device = dynamic_cast<host_device&>(*on->memory);
  const auto before = device.counts().works();
  REQUIRE(runner::load(folder, options_on(on)));
  const auto works = device.counts().works() - before;
  REQUIRE(works > 0);
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    device.fail_at(n, failing::once);
    const auto refused = runner::load(folder, options_on(on));
    REQUIRE(!refused);
    CHECK(refused.error().code == errc::internal);
    CHECK(device.sizes().free_bytes == device.sizes().total_bytes);
  }
}

TEST_CASE("documents that fail to come to a device out of blocks are uploaded by the pass") {
  fragile f;
  const stored_prompt prompt(f);
  auto counted = prompt.empty(f);
  const auto works = f.works([&] { REQUIRE(prompt.load(f, counted)); });
  REQUIRE(works > 10);
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    auto cache = prompt.empty(f);
    f.device().fail_at(n, failing::once);
    REQUIRE(prompt.load(f, cache));
    prompt.check_answer(f, cache);
  }
}

TEST_CASE("a layered load that fails anywhere says so and leaves an empty cache") {
  for (const auto wanted : {loaded_rows::here, loaded_rows::where_computed}) {
    fragile f;
    const stored_prompt prompt(f);
    std::vector<float> found(prompt.expected.size());
    auto counted = prompt.empty(f);
    const auto works = f.works([&] { REQUIRE(prompt.load_layers(f, counted, found, wanted)); });
    const auto free_bytes = f.device().sizes().free_bytes;
    for (std::uint64_t n = 0; n < works; ++n) {
      CAPTURE(n);
      auto cache = prompt.empty(f);
      f.device().fail_at(n, failing::once);
      check_told(prompt.load_layers(f, cache, found, wanted));
      CHECK(cache.rows(0, 0) == 0);
      CHECK(cache.is_home());
      REQUIRE(prompt.load_layers(f, cache, found, wanted));
      CHECK(distance(prompt.expected, found) <= tolerance);
      CHECK(cache.is_home() == (wanted == loaded_rows::here));
    }
    CHECK(f.device().sizes().free_bytes == free_bytes);
  }
}

TEST_CASE("documents that fail to come to a device alone are here, with those that had come") {
  for (const std::uint32_t block_tokens : {1U, 16U}) {  // in two rounds, and in one
    CAPTURE(block_tokens);
    fragile f;
    const stored_prompt prompt(f, block_tokens);
    auto here = prompt.empty(f);
    REQUIRE(prompt.load(f, here));
    auto counted = prompt.empty(f);
    const auto works = f.works([&] { REQUIRE(prompt.load(f, counted, loaded_rows::where_computed)); });
    REQUIRE(works > 10);
    for (std::uint64_t n = 0; n < works; ++n) {
      CAPTURE(n);
      auto cache = prompt.empty(f);
      f.device().fail_at(n, failing::once);
      REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
      REQUIRE(cache.bring_home());
      CHECK(same_rows(here, cache));
      auto other = prompt.empty(f);
      f.device().fail_at(n, failing::once);
      REQUIRE(prompt.load(f, other, loaded_rows::where_computed));
      prompt.check_answer(f, other);
    }
  }
}

TEST_CASE("a device that is lost while documents come to it alone: some are lost, or all are here") {
  fragile f;
  const stored_prompt prompt(f, 1);
  auto here = prompt.empty(f);
  REQUIRE(prompt.load(f, here));
  auto counted = prompt.empty(f);
  const auto works = f.works([&] { REQUIRE(prompt.load(f, counted, loaded_rows::where_computed)); });
  std::uint64_t lost = 0;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    auto cache = prompt.empty(f);
    f.device().fail_at(n, failing::from_then_on);
    const auto loaded = prompt.load(f, cache, loaded_rows::where_computed);
    f.device().fail_no_more();
    if (loaded) {
      CHECK(cache.is_home());
      CHECK(same_rows(here, cache));
      continue;
    }
    ++lost;
    CHECK(loaded.error().code == errc::internal);
    CHECK(cache.rows(0, 0) == 0);
    REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
    prompt.check_answer(f, cache);
  }
  CHECK(lost > 0);
  CHECK(lost < works);
}

TEST_CASE("a pass that fails over rows that only the device has brings them home") {
  fragile f;
  const stored_prompt prompt(f);
  std::vector<float> logits(prompt.expected.size());
  auto here = prompt.empty(f);
  REQUIRE(prompt.load(f, here));
  const auto loaded = [&] {
    auto cache = prompt.empty(f);
    REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
    REQUIRE(!cache.is_home());
    return cache;
  };
  auto counted = loaded();
  const auto works = f.works([&] { REQUIRE(prefill(f.there, counted, prompt.plan, logits)); });
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    auto cache = loaded();
    f.device().fail_at(n, failing::once);
    const auto failed = prefill(f.there, cache, prompt.plan, logits);
    REQUIRE(!failed);
    check_told(tl::unexpected(failed.error()));
    CHECK(cache.is_home());
    const auto passed = cache.rows(0, 0);
    cache.truncate(prompt.end());
    CHECK(passed >= cache.rows(0, 0));
    prompt.check_answer(f, cache);
  }
}

TEST_CASE("rows that only a lost device had are lost, until their documents are loaded again") {
  fragile f;
  const stored_prompt prompt(f);
  std::vector<float> logits(prompt.expected.size());
  auto cache = prompt.empty(f);
  REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
  f.device().fail_at(5, failing::from_then_on);
  const auto failed = prefill(f.there, cache, prompt.plan, logits);
  REQUIRE(!failed);
  check_told(tl::unexpected(failed.error()));
  CHECK(cache.is_lost());
  f.device().fail_no_more();
  for (runner* const model : {&f.there, &f.cpu}) {
    const auto asked = prefill(*model, cache, prompt.plan, logits);
    REQUIRE(!asked);
    CHECK(asked.error().code == errc::internal);
    CHECK(asked.error().context.find("load the documents again") != std::string::npos);
  }
  cache.truncate(0);
  REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
  prompt.check_answer(f, cache);
}

TEST_CASE("rows that cannot be brought home stay where they are") {
  fragile f;
  const stored_prompt prompt(f);
  auto here = prompt.empty(f);
  REQUIRE(prompt.load(f, here));
  auto cache = prompt.empty(f);
  REQUIRE(prompt.load(f, cache, loaded_rows::where_computed));
  const auto shape = f.cpu.cache_shape();
  const std::uint64_t lists = std::uint64_t{2} * shape.layers * shape.kv_heads;
  for (std::uint64_t n = 0; n < lists; ++n) {
    CAPTURE(n);
    f.device().fail_at(n, failing::once);
    check_told(cache.bring_home());
    CHECK(!cache.is_home());
    CHECK(!cache.is_lost());
  }
  REQUIRE(cache.bring_home());
  CHECK(same_rows(here, cache));
  prompt.check_answer(f, cache);
}
