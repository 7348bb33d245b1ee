// Blocks in the memory of a device that fails.
#include <weft/device/host_device.hpp>
#include <weft/engine/block_landing.hpp>
#include <weft/engine/host_compute_device.hpp>

#include "../../block/sample_blocks.hpp"
#include "landed_blocks.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using namespace weft::block::test;
using weft::errc;
using weft::device::failing;
using weft::device::host_device;

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
