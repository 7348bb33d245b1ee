// Documents whose blocks were fetched to the device: what it computes with them, beside what it computes with
// the same blocks on the host; and who brings them home.
#include <weft/engine/stitch.hpp>

#include "landed_documents.hpp"

#include <thread>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::kernels::dtype;
using weft::kernels::row_codec;

TEST_CASE("documents that landed give the answer of those on the host, bit for bit, and do not come there") {
  if (!device_under_test()) return;
  for (const auto& cut : several_cuts())
    for (const std::uint32_t block_tokens : {2U, 32U}) {
      CAPTURE(cut.name);
      CAPTURE(block_tokens);
      two_documents p(cut.bands, block_tokens);
      const landed_documents landed(p, device_under_test());
      auto expected = p.here();
      auto found = p.empty();
      REQUIRE(landed.load(p.there, found, loaded_rows::where_computed));
      CHECK(nothing_is_home(found));
      CHECK(answer(p.there, expected, p.plan()) == answer(p.there, found, p.plan()));
      CHECK(landed.blocks_at_home() == 0);
      REQUIRE(found.bring_home());
      CHECK(same_rows(expected, found));
    }
}

TEST_CASE("blocks that landed come home where their rows are wanted") {
  if (!device_under_test()) return;
  const auto check_loads = [](two_documents& p, runner& model, loaded_rows wanted) {
    const landed_documents landed(p, device_under_test());
    auto expected = p.here();
    auto found = p.empty();
    REQUIRE(landed.load(model, found, wanted));
    CHECK(found.is_home());
    CHECK(landed.blocks_at_home() == landed.blocks());
    CHECK(same_rows(expected, found));
    CHECK(answer(p.there, expected, p.plan()) == answer(p.there, found, p.plan()));
  };
  for (const auto& cut : several_cuts()) {
    CAPTURE(cut.name);
    two_documents p(cut.bands);
    check_loads(p, p.there, loaded_rows::here);
    check_loads(p, p.cpu, loaded_rows::where_computed);
  }
  two_documents wide(two_bands, 32, dtype::f32);  // prompts over its rows attend on the host
  check_loads(wide, wide.there, loaded_rows::where_computed);
}

TEST_CASE("of a block that was cut the bands that are there come out of the landing") {
  if (!device_under_test()) return;
  two_documents p;
  const landed_documents landed(p, device_under_test(), 1);
  const auto first_band = [&](runner& model, loaded_rows wanted, const auto& blocks_of) {
    auto cache = p.empty();
    REQUIRE(reserve_computed_rows(cache, p.plan()));
    for (const std::size_t document : {0U, 1U}) {
      auto blocks = blocks_of(document);
      for (auto& block : blocks)
        block.bands = 1;
      REQUIRE(scatter_blocks(model, cache, blocks, wanted));
    }
    return cache;
  };
  auto expected =
      first_band(p.cpu, loaded_rows::here, [&](std::size_t document) { return landed.stored(document); });
  auto found = first_band(p.there, loaded_rows::where_computed,
                          [&](std::size_t document) { return landed.placed(document); });
  CHECK(nothing_is_home(found));
  CHECK(answer(p.there, expected, p.plan()) == answer(p.there, found, p.plan()));
  CHECK(landed.blocks_at_home() == 0);
}

TEST_CASE("blocks that landed, blocks on the host, and blocks of which nothing is loaded come together") {
  if (!device_under_test()) return;
  two_documents p;
  const landed_documents landed(p, device_under_test());
  const auto mixed = [&](runner& model, loaded_rows wanted, bool from_landing) {
    auto blocks = from_landing ? landed.placed(0) : landed.stored(0);
    REQUIRE(blocks.size() == 3);
    blocks[1] = landed.stored(0)[1];
    blocks[2].bands = 0;
    auto cache = p.empty();
    REQUIRE(scatter_blocks(model, cache, blocks, wanted));
    row_batch question;
    add_rows(question, p.question, 90);
    return run(p.there, question, cache);
  };
  const auto expected = mixed(p.cpu, loaded_rows::here, false);
  CHECK(mixed(p.there, loaded_rows::where_computed, true) == expected);
  CHECK(landed.blocks_at_home() == 0);
  CHECK(mixed(p.there, loaded_rows::here, true) == expected);
  CHECK(landed.blocks_at_home() == 1);  // the one that has rows
}

TEST_CASE("blocks come home where one of several caches takes rows of theirs on the host") {
  if (!device_under_test()) return;
  for (const auto second : {row_codec::int8, row_codec::raw}) {
    two_documents p(two_bands_in(row_codec::raw, second));
    const landed_documents landed(p, device_under_test());
    const auto asked = [&](runner& loader, loaded_rows wanted, const auto& blocks_of) {
      auto shape = p.cpu.cache_shape();
      shape.coding = row_codec::int8;
      const auto raw = std::make_shared<kv_cache>(p.cpu.cache_shape(), p.head_rooms());
      const auto coded = std::make_shared<kv_cache>(raw, shape, p.head_rooms());
      kv_cache* const caches[] = {raw.get(), coded.get()};
      for (const std::size_t document : {0U, 1U})
        REQUIRE(scatter_blocks(loader, caches, blocks_of(document), wanted));
      CHECK(raw->is_home() == (wanted == loaded_rows::here));
      kv_cache own(coded, p.head_rooms());
      row_batch rows;
      add_rows(rows, p.question, 120);
      return run(p.there, rows, own);
    };
    const auto expected =
        asked(p.cpu, loaded_rows::here, [&](std::size_t document) { return landed.stored(document); });
    CHECK(asked(p.there, loaded_rows::where_computed,
                [&](std::size_t document) { return landed.placed(document); }) == expected);
    CHECK(landed.blocks_at_home() == (second == row_codec::int8 ? landed.blocks() : 0));
  }
}

TEST_CASE("blocks that landed are loaded over rows that are there already") {
  if (!device_under_test()) return;
  two_documents p;
  const landed_documents landed(p, device_under_test());
  auto expected = p.here();
  auto found = p.away();
  REQUIRE(scatter_blocks(p.there, found, landed.placed(0), loaded_rows::where_computed));
  CHECK(same_rows(expected, found));
  CHECK(answer(p.there, expected, p.plan()) == answer(p.there, found, p.plan()));
}

TEST_CASE("blocks are proven while others that landed are loaded") {
  if (!device_under_test()) return;
  two_documents p;
  landed_documents landed(p, device_under_test());
  const auto& stored = *p.stored[0];
  const block_landing::arrived next{landed.place().fetch(stored.block_bytes()[0]),
                                    exactly(stored.blocks()[0].id())};
  landed.place().deliver();
  auto expected = p.here();
  bool all = true;
  std::thread proving([&] {
    for (int i = 0; i < 8; ++i) {
      all = landed.landing().prove({&next, 1}).front().has_value() && all;
      landed.landing().leave(next.here.data());
    }
  });
  for (const auto wanted : {loaded_rows::where_computed, loaded_rows::here}) {
    auto found = p.empty();
    CHECK(landed.load(p.there, found, wanted));
    CHECK(found.bring_home());
    CHECK(same_rows(expected, found));
  }
  proving.join();
  CHECK(all);
}

TEST_CASE("a block that was not proven on the device, or left it, is not read there") {
  if (!device_under_test()) return;
  two_documents p;
  const landed_documents landed(p, device_under_test());
  const auto check_refused = [&](std::span<const placed_block> blocks) {
    for (const auto wanted : {loaded_rows::here, loaded_rows::where_computed}) {
      auto cache = p.empty();
      const auto refused = scatter_blocks(p.there, cache, blocks, wanted);
      REQUIRE(!refused);
      CHECK(refused.error().code == errc::invalid_argument);
      CHECK(cache.rows(0, 0) == 0);
    }
  };
  auto blocks = p.placed(1, 3);
  blocks.front().landing = &landed.landing();
  check_refused(blocks);
  blocks = landed.placed(1);
  landed.landing().leave(blocks.back().block->bytes().data());
  check_refused(blocks);
}
