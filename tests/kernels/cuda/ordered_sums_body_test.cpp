#include "cuda/ordered_sums_body.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

TEST_CASE("values are summed in the order of the ranks") {
  // 1e8 swallows what comes singly behind it: every order gives another sum.
  const std::vector<float> values{1.0F, 0.0F, 1e8F, 2.0F, -1e8F, 3.0F, 5.0F, -0.0F};
  const auto sum = [&](std::uint32_t ranks, std::size_t i) {
    return weft::kernels::cuda::ordered_sum(values.data(), 2, ranks, i);
  };
  CHECK(sum(1, 0) == 1.0F);
  CHECK(sum(4, 0) == ((1.0F + 1e8F) + -1e8F) + 5.0F);
  CHECK(sum(4, 0) != 1.0F + ((1e8F + -1e8F) + 5.0F));
  CHECK(sum(4, 1) == 5.0F);
}
