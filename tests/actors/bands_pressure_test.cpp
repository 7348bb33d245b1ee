// Documents in bands on nodes that have not enough memory for them.
#include <weft/block/layout.hpp>
#include <weft/policies/keys.hpp>
#include <weft/schema/manifest.hpp>

#include <doctest/doctest.h>

#include "recall_cluster.hpp"

#include <algorithm>
#include <memory>
#include <vector>

using namespace weft;
using namespace weft::simulation;
using actors::scoring_wish;

TEST_CASE(
    "under pressure cold documents lose low bands before any is dropped, and say what they still serve") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.dram_bytes = 1 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto contexts = contexts_of("kv_512", 4);
  std::vector<id128> first;
  std::size_t ingested = 0;
  for (const auto& context : contexts)
    for (const auto& text : context.documents) {
      const auto stored = value_of(cluster, cluster.ingest("decode", text, {"kvzip", default_bands}));
      CHECK(stored.served_millionths == 1'000'000);
      if (first.size() < contexts[0].documents.size()) first.push_back(stored.id);
      ++ingested;
    }
  const auto listed = value_of(cluster, cluster.documents("decode")).documents;
  REQUIRE(listed.size() == ingested);
  std::size_t trimmed = 0;
  std::uint32_t served = 1'000'000;
  for (const auto& document : listed) {
    CHECK(document.served_millionths >= 100'000);  // none was dropped
    trimmed += document.served_millionths < 1'000'000 ? 1 : 0;
    if (std::ranges::find(first, document.id) != first.end())
      served = std::min(served, static_cast<std::uint32_t>(document.served_millionths));
  }
  CHECK(trimmed > 0);
  REQUIRE(served < 1'000'000);

  const auto& question = contexts[0].questions[0].first;
  const auto at_served = value_of(cluster, cluster.ask("decode", asked(question, first, served)));
  CHECK(at_served.misses == 0);
  CHECK(at_served.recomputed_rows == 0);
  // What is not there any more is computed again; nobody gets fewer rows than asked for.
  const auto all = value_of(cluster, cluster.ask("decode", asked(question, first, 0)));
  CHECK(all.misses > 0);
  CHECK(all.cache_bytes > at_served.cache_bytes);
  CHECK(std::ranges::find(contexts[0].questions[0].second, all.text) !=
        contexts[0].questions[0].second.end());
}

TEST_CASE("what is remembered of a block that lost bands since then is not found where it was") {
  const auto model = recall_model();
  auto plan = plan_of(model);
  plan.nodes.pop_back();  // one holder
  plan.dram_bytes = 1 << 20;
  simulated_cluster cluster{plan};
  settle(cluster);
  const auto contexts = contexts_of("kv_512", 4);
  const scoring_wish wish{"kvzip", default_bands};
  const auto stored = value_of(cluster, cluster.ingest("decode", contexts[0].documents[0], wish));
  const auto manifest_block = value_of(cluster, cluster.get("decode", {policies::manifest_key(stored.id)}));
  REQUIRE(manifest_block->blocks[0].outcome);
  const auto opaque = block::view::parse(manifest_block->blocks[0].bytes->bytes()).value();
  const auto manifest = schema::from_bytes(opaque.payload()).value();
  const auto& keys = manifest.block_keys;
  const auto bands = manifest.bands.size();
  const auto ends_of = [&](std::size_t band) {
    std::vector<std::uint64_t> ends;
    for (std::size_t i = 0; i < keys.size(); ++i)
      ends.push_back(manifest.band_ends[i * bands + band]);
    return ends;
  };
  const auto whole = value_of(cluster, cluster.get("decode", keys, false, ends_of(bands - 1)));
  // Every band that came is the one that was there at the beginning.
  const auto count_read = [&](std::size_t band) {
    const auto again = value_of(cluster, cluster.get("decode", keys, false, ends_of(band)));
    std::size_t read = 0;
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (!again->blocks[i].outcome) continue;
      ++read;
      const auto now = block::view::parse(again->blocks[i].bytes->bytes()).value();
      const auto before = block::view::parse(whole->blocks[i].bytes->bytes()).value();
      REQUIRE(now.bands_present() == band + 1);
      REQUIRE(now.verify_bands());
      for (std::uint32_t b = 0; b <= band; ++b)
        CHECK(now.checksum_of_band(b) == before.checksum_of_band(b));
    }
    return read;
  };
  const auto of_decode = [&](const std::string& name) { return counted(cluster, "decode", name); };
  CHECK(count_read(bands - 1) == keys.size());
  const auto blocks = static_cast<std::int64_t>(keys.size());
  REQUIRE(of_decode("pool.blocks_remembered") == blocks);
  REQUIRE(of_decode("pool.blocks_moved") == 0);

  for (std::size_t c = 1; c < contexts.size(); ++c)
    for (const auto& text : contexts[c].documents)
      value_of(cluster, cluster.ingest("decode", text, wish));
  const auto listed = value_of(cluster, cluster.documents("decode")).documents;
  const auto summary = std::ranges::find(listed, stored.id, &actors::document_summary::id);
  REQUIRE(summary != listed.end());
  REQUIRE(summary->served_millionths < 1'000'000);
  REQUIRE(summary->served_millionths > 0);

  CHECK(count_read(bands - 1) < keys.size());
  const auto moved = of_decode("pool.blocks_moved");
  CHECK(moved > 0);
  CHECK(count_read(0) == keys.size());  // its first band is there, elsewhere
  const auto remembered = of_decode("pool.blocks_remembered");
  CHECK(count_read(0) == keys.size());
  CHECK(of_decode("pool.blocks_remembered") == remembered + blocks);
  CHECK(of_decode("pool.blocks_rejected") == 0);
}
