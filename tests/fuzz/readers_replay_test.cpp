// The targets of manifests, cluster files and the fabric's messages without a fuzzer: their seeds, and seeds
// damaged at random under a fixed seed.
#include <doctest/doctest.h>

#include "cluster_file_target.hpp"
#include "manifest_target.hpp"
#include "mutation.hpp"
#include "wire_target.hpp"

using namespace weft::fuzz;

namespace {

template <class Read>
void replay(const std::string& folder, int rounds, Read read) {
  const auto seeds = seeds_in(std::string(WEFT_SOURCE_DIR "/tests/fuzz/seeds/") + folder);
  REQUIRE(seeds.size() >= 3);
  int sound = 0;
  for (const bytes& seed : seeds)
    sound += read(seed);
  CHECK(sound >= 2);

  mutator damage(seeds, 77);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < rounds; ++round)
    ++(read(damage.next()) ? accepted : refused);
  CHECK(accepted > 0);
  CHECK(refused > rounds / 10);
}

}  // namespace

TEST_CASE("manifests damaged at random are read without harm") {
  replay("manifest", 20'000, [](const bytes& b) { return read_as_manifest(b); });
}

TEST_CASE("cluster files damaged at random give a sound cluster or mistakes of one line each") {
  replay("cluster_file", 4'000, [](const bytes& b) {
    return read_as_cluster_file({reinterpret_cast<const char*>(b.data()), b.size()});
  });
}

TEST_CASE("what a peer sends over the fabric is read without harm, whatever it is") {
  replay("wire", 20'000, [](const bytes& b) { return read_as_fabric_bytes(b); });
}
