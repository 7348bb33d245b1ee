// Random writers, readers, faults, kills and power losses. WEFT_SEED=n runs one seed, WEFT_SEEDS=n as many.
#include <doctest/doctest.h>

#include "seeds.hpp"
#include "tier_room.hpp"

namespace weft::tier::test {
namespace {

using machines::test::for_each_seed;
using machines::test::random_source;

constexpr std::uint64_t keys = 60;

void act(tier_room& room, random_source& random) {
  const id128 key = key_of(random.below(keys));
  switch (random.below(13)) {
    case 0:
    case 1:
    case 2:
      room.put(key);
      break;
    case 3:
    case 4:
      room.get(key);
      break;
    case 5:
      room.drop(key);
      break;
    case 12:
      room.tier().scrub(std::vector{key_of(random.below(keys)), key_of(random.below(keys))},
                        [](const std::vector<id128>&) {});
      break;
    case 6:
      room.now += std::chrono::seconds(3);
      room.tier().tick();
      break;
    default:
      for (std::uint64_t i = random.below(20); i > 0; --i)
        room.step();
  }
}

}  // namespace

TEST_CASE("with a faithful device, all that is on file survives kills and power losses") {
  for_each_seed(60, [](random_source& random) {
    tier_room room(random.any());
    for (int life = 0; life < 4; ++life) {
      for (int i = 0; i < 150; ++i) {
        act(room, random);
        if (i % 10 == 0) room.check_books();
      }
      if (random.percent(50)) {
        room.settle();
        room.check_announced();
      }
      const auto before = room.on_file();
      random.percent(50) ? room.device.kill() : room.device.crash();
      room.start();
      // Evicted ones may be overwritten by what never came to be on file; of what was on file none is lost.
      for (const id128& key : before) {
        REQUIRE(room.tier().books().holds(key));
        REQUIRE(room.get(key));
      }
    }
  });
}

TEST_CASE("whatever the device does, no wrong byte is read and the books stay right") {
  for_each_seed(80, [](random_source& random) {
    tier_room room(random.any());
    const auto some = [&] { return random.percent(40) ? static_cast<std::uint32_t>(random.below(80)) : 0U; };
    for (int life = 0; life < 3; ++life) {
      room.device.faults = {.failed_read = some(),
                            .failed_write = some(),
                            .failed_sync = some(),
                            .lost_sync = some(),
                            .misdirected_write = some(),
                            .lost_write = some(),
                            .flipped_bit = some()};
      room.device.set_data_limit(random.percent(30) ? random.below(200) << 10 : memory_device::unlimited);
      for (int i = 0; i < 200; ++i) {
        act(room, random);
        if (i % 10 == 0) room.check_books();
      }
      room.settle();
      room.check_announced();
      random.percent(50) ? room.device.kill() : room.device.crash();
      room.start();
    }
  });
}

}  // namespace weft::tier::test
