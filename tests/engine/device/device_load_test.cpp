// Documents out of blocks, on their way to a device: what it computes behind them, beside what it computes
// over the same rows that were uploaded.
#include <weft/block/layout.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/policies/stitch.hpp>

#include "two_documents.hpp"

#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::row_codec;
using weft::policies::stitch_policy;

TEST_CASE("documents that a device rotates out of blocks are those that were uploaded, bit for bit") {
  if (!device_under_test()) return;
  for (const auto& cut : several_cuts())
    for (const std::uint32_t block_tokens : {2U, 32U}) {
      two_documents p(cut.bands, block_tokens);
      for (const auto& policy : {stitch_policy::none, stitch_policy::epic(10)}) {
        CAPTURE(cut.name);
        CAPTURE(block_tokens);
        const auto plan = p.plan(policy);
        auto uploaded = p.loaded(p.cpu, plan, loaded_rows::here);
        auto staged = p.loaded(p.there, plan, loaded_rows::here);
        CHECK(staged.mirror() != nullptr);  // it did not fail
        CHECK(answer(p.there, uploaded, plan) == answer(p.there, staged, plan));
        CHECK(same_rows(uploaded, staged));
      }
    }
}

TEST_CASE("layers that come one by one are rotated on a device before it attends to them") {
  if (!device_under_test()) return;
  for (const auto& cut : {band_cutter(two_bands), two_bands_in(row_codec::int8, row_codec::raw)}) {
    two_documents p(cut);
    for (const auto& policy : {stitch_policy::none, stitch_policy::epic(10)}) {
      const auto plan = p.plan(policy);
      auto uploaded = p.loaded(p.cpu, plan, loaded_rows::here);
      auto layered = p.empty();
      std::vector<float> expected(p.cpu.config().vocab_size), found(expected.size());
      REQUIRE(prefill(p.there, uploaded, plan, expected));
      std::uint32_t next = 0;
      const auto done = prefill_while_loading(
          p.there, layered, plan, p.blocks,
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
}

TEST_CASE("rows that are loaded over others, on a device") {
  if (!device_under_test()) return;
  two_documents p;
  const auto first = p.placed(0, 4);
  const auto other = p.placed(1, 4);  // shorter: some rows of the first one stay
  row_batch question;
  add_rows(question, p.question, 80);
  const auto asked = [&](runner& loader, bool between) {
    auto cache = p.empty();
    REQUIRE(scatter_blocks(loader, cache, first));
    if (between) run(p.there, question, cache);
    cache.truncate(80);
    REQUIRE(scatter_blocks(loader, cache, other));
    return run(p.there, question, cache);
  };
  const auto expected = asked(p.cpu, false);
  CHECK(asked(p.there, false) == expected);
  CHECK(asked(p.there, true) == expected);
}

TEST_CASE("caches that take rows in their codec are not for a device's kernel, others beside them are") {
  if (!device_under_test()) return;
  two_documents p(two_bands_in(row_codec::raw, row_codec::int8));
  row_batch question;
  add_rows(question, p.question, 70);
  const auto asked = [&](runner& loader) {
    const auto rows = p.head_rooms();
    auto shape = p.cpu.cache_shape();
    shape.coding = row_codec::int8;
    const auto coded = std::make_shared<kv_cache>(shape, rows);
    const auto raw = std::make_shared<kv_cache>(coded, p.cpu.cache_shape(), rows);
    kv_cache* const caches[] = {raw.get(), coded.get()};
    REQUIRE(scatter_blocks(loader, caches, p.placed(0, 0)));
    kv_cache own(raw, rows);
    return run(p.there, question, own);
  };
  CHECK(asked(p.there) == asked(p.cpu));
}
