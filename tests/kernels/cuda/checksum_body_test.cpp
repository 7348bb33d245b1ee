// A warp's checksum, lane by lane, against xxHash's own.
#include "cuda/checksum_body.hpp"

#include <doctest/doctest.h>

#include "reference/host_warp.hpp"
#include <xxhash.h>

#include <random>
#include <vector>

TEST_CASE("a warp's checksum is XXH3 of any number of words") {
  std::mt19937_64 random(1);
  std::vector<std::uint64_t> data(9000);
  for (auto& word : data)
    word = random();
  const weft::kernels::reference::host_warp warp;
  const auto check = [&](std::size_t first, std::size_t words) {
    CAPTURE(words);
    REQUIRE(weft::kernels::cuda::checksum_of(warp, data.data() + first, words) ==
            XXH3_64bits(data.data() + first, words * sizeof(std::uint64_t)));
  };
  for (std::size_t words = 0; words <= 600; ++words)
    check(words % 7, words);
  for (int round = 0; round < 200; ++round)
    check(random() % 100, random() % 8900);
}

TEST_CASE("the parts of a block, which are multiples of 64 bytes, and headers without their first 16") {
  const std::vector<std::uint64_t> zeros(8192, 0);
  const weft::kernels::reference::host_warp warp;
  for (const std::size_t bytes : {64U, 128U, 176U, 240U, 304U, 1024U, 1088U, 2048U, 65536U})
    CHECK(weft::kernels::cuda::checksum_of(warp, zeros.data(), bytes / 8) ==
          XXH3_64bits(zeros.data(), bytes));
}
