// Checksums on a device, against xxHash's own. Skipped, and said so, where there is none.
#include <weft/kernels/cuda/checksums.hpp>

#include <doctest/doctest.h>

#include "device_memory.hpp"
#include <xxhash.h>

#include <random>

namespace weft::kernels {

TEST_CASE("checksums on the device are XXH3") {
  if (!testing::has_device()) return;
  std::mt19937_64 random(1);
  testing::shared_array<std::uint64_t> data(100'000);
  for (std::size_t i = 0; i < data.size(); ++i)
    data[i] = random();
  testing::shared_array<cuda::checked_part> parts(testing::as_fits(700, 615));
  testing::shared_array<std::uint64_t> sums(parts.size());
  for (std::size_t i = 0; i < parts.size(); ++i)
    parts[i] = {reinterpret_cast<const std::byte*>(data.data() + i), i < 600 ? i : random() % 99'000};
  REQUIRE(cuda::checksums(parts.data(), static_cast<std::uint32_t>(parts.size()), sums.data(), nullptr) ==
          cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  for (std::size_t i = 0; i < parts.size(); ++i)
    REQUIRE(sums[i] == XXH3_64bits(parts[i].data, parts[i].words * sizeof(std::uint64_t)));
}

}  // namespace weft::kernels
