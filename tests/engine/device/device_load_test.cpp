// Documents out of blocks, on their way to a device: what it computes behind them, beside what it computes
// over the same rows that were uploaded.
#include <weft/block/layout.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/policies/stitch.hpp>

#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::dtype;
using weft::kernels::row_codec;
using weft::policies::stitch_plan;
using weft::policies::stitch_policy;

namespace {

constexpr std::uint32_t room = 256;

runner_options options_for(std::shared_ptr<const compute_device> device) {
  auto options = options_on(std::move(device));
  options.threads = 2;
  options.chunk_rows = 16;  // passes come in several parts
  return options;
}

band_cutter two_bands_in(row_codec first, row_codec second) {
  return [=](const weft::block::shape& shape) {
    auto bands = two_bands(shape);
    bands[0].coding = first;
    bands[1].coding = second;
    return bands;
  };
}

// Two documents behind an opening and in front of a question.
struct prompt {
  prompt(runner& model, const band_cutter& cut, std::uint32_t block_tokens) {
    for (const auto& tokens : texts) {
      const auto encoded = encode_document(model, tokens);
      REQUIRE(encoded);
      stored.push_back(std::make_unique<stored_document>(*encoded, block_tokens, cut));
      blocks.push_back(stored.back()->blocks());
    }
  }

  stitch_plan plan(const stitch_policy& policy) const {
    std::vector<weft::policies::prompt_document> listed;
    for (const auto& tokens : texts)
      listed.push_back({tokens, true});
    auto made = plan_stitch(policy, {opening, listed, question});
    REQUIRE(made);
    return std::move(*made);
  }

  std::vector<token_id> opening = some_tokens(3, 1);
  std::vector<std::vector<token_id>> texts{some_tokens(70, 2), some_tokens(33, 3)};
  std::vector<token_id> question = some_tokens(9, 5);
  std::vector<std::unique_ptr<stored_document>> stored;
  std::vector<document_blocks> blocks;
};

// The first answer token's logits and those of the step behind it.
std::vector<float> answer(runner& model, kv_cache& cache, const stitch_plan& plan) {
  std::vector<float> logits(model.config().vocab_size);
  REQUIRE(prefill(model, cache, plan, logits));
  row_batch step;
  step.add(7, static_cast<std::int32_t>(plan.prompt_tokens), 0);
  const auto next = run(model, step, cache);
  logits.insert(logits.end(), next.begin(), next.end());
  return logits;
}

void load(runner& model, kv_cache& cache, const stitch_plan& plan, const prompt& text) {
  const auto done = load_documents(model, cache, plan, text.blocks);
  REQUIRE_MESSAGE(done.has_value(), done.error().context);
}

std::vector<placed_block> placed(document_blocks blocks, std::int32_t position, std::int32_t segment) {
  std::vector<placed_block> all;
  for (const auto& block : blocks) {
    all.push_back({&block, block.bands_present(), position, segment});
    position += static_cast<std::int32_t>(block.dimensions().tokens);
  }
  return all;
}

}  // namespace

TEST_CASE("documents that a device rotates out of blocks are those that were uploaded, bit for bit") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_for(nullptr));
  auto there = load_fixture("llama", options_for(device_under_test()));
  const std::pair<const char*, band_cutter> cuts[] = {
      {"one band", one_band},
      {"two bands", two_bands},
      {"int8 behind raw", two_bands_in(row_codec::raw, row_codec::int8)},
      {"int4 behind int8", two_bands_in(row_codec::int8, row_codec::int4)}};
  for (const auto& [name, cut] : cuts)
    for (const std::uint32_t block_tokens : {2U, 32U})
      for (const auto& policy : {stitch_policy::none, stitch_policy::epic(10)}) {
        CAPTURE(name);
        CAPTURE(block_tokens);
        const prompt text(cpu, cut, block_tokens);
        const auto plan = text.plan(policy);
        kv_cache uploaded(cpu.cache_shape(), room), staged(cpu.cache_shape(), room);
        load(cpu, uploaded, plan, text);
        load(there, staged, plan, text);
        CHECK(staged.mirror() != nullptr);  // it did not fail
        CHECK(answer(there, uploaded, plan) == answer(there, staged, plan));
        CHECK(same_rows(uploaded, staged));
      }
}

TEST_CASE("layers that come one by one are rotated on a device before it attends to them") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_for(nullptr));
  auto there = load_fixture("llama", options_for(device_under_test()));
  for (const auto& cut : {band_cutter(two_bands), two_bands_in(row_codec::int8, row_codec::raw)})
    for (const auto& policy : {stitch_policy::none, stitch_policy::epic(10)}) {
      const prompt text(cpu, cut, 32);
      const auto plan = text.plan(policy);
      kv_cache uploaded(cpu.cache_shape(), room), layered(cpu.cache_shape(), room);
      load(cpu, uploaded, plan, text);
      std::vector<float> expected(cpu.config().vocab_size), found(expected.size());
      REQUIRE(prefill(there, uploaded, plan, expected));
      std::uint32_t next = 0;
      const auto done = prefill_while_loading(
          there, layered, plan, text.blocks,
          [&](std::uint32_t layer) -> weft::result<void> {
            CHECK(layer == next++);
            return {};
          },
          found);
      REQUIRE_MESSAGE(done.has_value(), done.error().context);
      CHECK(expected == found);
      CHECK(same_rows(uploaded, layered));
    }
}

TEST_CASE("rows that are loaded over others, on a device") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_for(nullptr));
  auto there = load_fixture("llama", options_for(device_under_test()));
  const prompt text(cpu, two_bands, 32);
  const auto first = placed(text.blocks[0], 4, 1);
  const auto other = placed(text.blocks[1], 4, 1);  // shorter: some rows of the first one stay
  row_batch question;
  add_rows(question, text.question, 80);
  const auto asked = [&](runner& loader, bool between) {
    kv_cache cache(cpu.cache_shape(), room);
    REQUIRE(scatter_blocks(loader, cache, first));
    if (between) run(there, question, cache);
    cache.truncate(80);
    REQUIRE(scatter_blocks(loader, cache, other));
    return run(there, question, cache);
  };
  const auto expected = asked(cpu, false);
  CHECK(asked(there, false) == expected);
  CHECK(asked(there, true) == expected);
}

TEST_CASE("caches that take rows in their codec are not for a device's kernel, others beside them are") {
  if (!device_under_test()) return;
  auto cpu = load_fixture("llama", options_for(nullptr));
  auto there = load_fixture("llama", options_for(device_under_test()));
  const prompt text(cpu, two_bands_in(row_codec::raw, row_codec::int8), 32);
  const auto blocks = placed(text.blocks[0], 0, 1);
  row_batch question;
  add_rows(question, text.question, 70);
  const auto asked = [&](runner& loader) {
    const std::vector<std::uint32_t> rows(std::size_t{cpu.config().layers} * cpu.config().kv_heads, room);
    auto shape = cpu.cache_shape();
    shape.coding = row_codec::int8;
    const auto coded = std::make_shared<kv_cache>(shape, rows);
    const auto raw = std::make_shared<kv_cache>(coded, cpu.cache_shape(), rows);
    kv_cache* const caches[] = {raw.get(), coded.get()};
    REQUIRE(scatter_blocks(loader, caches, blocks));
    kv_cache own(raw, rows);
    return run(there, question, own);
  };
  CHECK(asked(there) == asked(cpu));
}
