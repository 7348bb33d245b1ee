// Blocks in the memory of a device that counts its copies, and of one that fails.
#include <weft/device/host_device.hpp>
#include <weft/engine/block_landing.hpp>
#include <weft/engine/host_compute_device.hpp>

#include "../../block/sample_blocks.hpp"
#include "landed_documents.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using namespace weft::block::test;
using weft::errc;
using weft::device::failing;
using weft::device::host_device;

namespace {

host_device& likeness() {
  return dynamic_cast<host_device&>(*device_under_test()->memory);
}

// Copies and kernels of a load into an empty cache.
std::uint64_t works_of_load(two_documents& p, const landed_documents& landed, loaded_rows wanted) {
  auto cache = p.empty();
  const auto before = likeness().counts().works();
  REQUIRE(landed.load(p.there, cache, wanted));
  return likeness().counts().works() - before;
}

// Of keys and values.
std::size_t bytes_of_rows(const two_documents& p) {
  std::size_t bytes = 0;
  for (const auto& document : p.blocks)
    for (const auto& block : document)
      for (std::uint32_t band = 0; band < block.bands_present(); ++band)
        for (std::uint32_t layer = 0; layer < block.dimensions().layers; ++layer)
          bytes += p.cpu.cache_shape().row_bytes() * 2 * block.layer(band, layer).rows;
  return bytes;
}

}  // namespace

TEST_CASE("of blocks that landed no row is copied to the device or from it") {
  two_documents p;
  const landed_documents landed(p, device_under_test());
  const auto counted = [&](const auto& load) {
    auto cache = p.empty();
    const auto before = likeness().counts();
    load(cache);
    auto counts = likeness().counts();
    CHECK(counts.downloads == before.downloads);
    CHECK(counts.copies == before.copies);
    return counts.upload_bytes - before.upload_bytes;
  };
  const auto staged = counted([&](kv_cache& cache) {
    REQUIRE(load_documents(p.there, cache, p.plan(), p.blocks, loaded_rows::where_computed));
  });
  const auto found =
      counted([&](kv_cache& cache) { REQUIRE(landed.load(p.there, cache, loaded_rows::where_computed)); });
  CHECK(staged - found == bytes_of_rows(p));
}

TEST_CASE("blocks that landed on another device than the model's are read by way of the host") {
  two_documents p;
  const landed_documents landed(p, host_compute_device(std::size_t{8} << 20U));
  auto expected = p.here();
  auto found = p.empty();
  REQUIRE(landed.load(p.there, found, loaded_rows::where_computed));
  CHECK(nothing_is_home(found));
  CHECK(answer(p.there, expected, p.plan()) == answer(p.there, found, p.plan()));
}

TEST_CASE("where a device fails once amid blocks that landed they are loaded here, or can be fetched anew") {
  two_documents p;
  auto expected = p.here();
  for (const auto wanted : {loaded_rows::here, loaded_rows::where_computed}) {
    const landed_documents counted(p, device_under_test());
    const auto works = works_of_load(p, counted, wanted);
    REQUIRE(works > 10);
    std::uint64_t told = 0;
    for (std::uint64_t n = 0; n < works; ++n) {
      CAPTURE(n);
      const landed_documents fresh(p, device_under_test());
      auto cache = p.empty();
      likeness().fail_at(n, failing::once);
      if (const auto loaded = fresh.load(p.there, cache, wanted); !loaded) {
        ++told;
        CHECK(loaded.error().code == errc::internal);
        CHECK(!cache.is_lost());
        for (const std::size_t document : {0U, 1U})
          REQUIRE(scatter_blocks(p.there, cache, counted.stored(document), wanted));
      }
      REQUIRE(cache.bring_home());
      CHECK(same_rows(expected, cache));
    }
    // Only copies home have nobody behind them.
    CHECK(told == (wanted == loaded_rows::here ? counted.blocks() : 0));
  }
}

TEST_CASE("of a device that is lost amid blocks that landed no row is in the cache that did not come") {
  two_documents p;
  const landed_documents counted(p, device_under_test());
  auto expected = p.here();
  const auto works = works_of_load(p, counted, loaded_rows::where_computed);
  std::uint64_t lost = 0;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    const landed_documents landed(p, device_under_test());
    auto cache = p.empty();
    likeness().fail_at(n, failing::from_then_on);
    const auto loaded = landed.load(p.there, cache, loaded_rows::where_computed);
    likeness().fail_no_more();
    REQUIRE(!loaded);
    CHECK(loaded.error().code == errc::internal);
    if (cache.is_lost()) {  // with the first document
      ++lost;
      continue;
    }
    // What the plan computes in front of the documents.
    CHECK(cache.rows(0, 0) == p.opening.size());
    for (const std::size_t document : {0U, 1U})
      REQUIRE(scatter_blocks(p.there, cache, counted.stored(document), loaded_rows::where_computed));
    REQUIRE(cache.bring_home());
    CHECK(same_rows(expected, cache));
  }
  CHECK(lost > 0);
  CHECK(lost < works);
}

TEST_CASE("where a device fails amid a proof nothing is proven, and the next proof is right") {
  const auto on = host_compute_device(std::size_t{64} << 20U);
  auto& device = dynamic_cast<host_device&>(*on->memory);
  const auto free_bytes = device.sizes().free_bytes;
  {
    random_engine random(76);
    const sample first = random_sample(random), second = random_sample(random);
    landing_place place(on, std::size_t{1} << 20U);
    const block_landing::arrived blocks[] = {{place.fetch(first.bytes.span()), exactly(first.id)},
                                             {place.fetch(second.bytes.span()), exactly(second.id)}};
    place.deliver();
    const auto before = device.counts();
    for (const auto& outcome : place.landing().prove(blocks))
      REQUIRE(outcome);
    CHECK(device.counts().waits - before.waits == 2);
    const auto works = device.counts().works() - before.works();
    for (const auto& block : blocks)
      place.landing().leave(block.here.data());
    REQUIRE(works >= 5);
    for (std::uint64_t n = 0; n < works; ++n) {
      CAPTURE(n);
      device.fail_at(n, failing::once);
      for (const auto& outcome : place.landing().prove(blocks)) {
        REQUIRE(!outcome);
        CHECK(outcome.error().code == errc::internal);
      }
      CHECK(place.landing().there(blocks[0].here.data()) == nullptr);
    }
    for (const auto& outcome : place.landing().prove(blocks))
      CHECK(outcome);

    spoil_rows(blocks[0].here);
    device.fail_at(0, failing::once);
    const auto failed = place.landing().bring_home(blocks[0].here.data());
    REQUIRE(!failed);
    CHECK(failed.error().code == errc::internal);
    REQUIRE(place.landing().bring_home(blocks[0].here.data()));
    CHECK(std::ranges::equal(blocks[0].here, first.bytes.span()));
  }
  CHECK(device.sizes().free_bytes == free_bytes);
}
