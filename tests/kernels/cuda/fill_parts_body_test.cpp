// A warp that fills parts of blocks, lane by lane.
#include "cuda/fill_parts_body.hpp"

#include <weft/kernels/cuda/block_work.hpp>

#include <doctest/doctest.h>

#include "reference/host_warp.hpp"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

TEST_CASE("numbers come to their place, zeros behind them, and nothing else is written") {
  using weft::kernels::cuda::filled_part;
  std::vector<std::uint16_t> numbers(1000);
  std::iota(numbers.begin(), numbers.end(), std::uint16_t{300});
  for (const std::uint32_t count : {0U, 1U, 31U, 32U, 33U, 1000U})
    for (const std::uint32_t zero_bytes : {0U, 1U, 31U, 33U, 64U}) {
      CAPTURE(count);
      CAPTURE(zero_bytes);
      constexpr std::size_t before = 6;
      const std::size_t filled = 2 * std::size_t{count} + zero_bytes;
      std::vector<std::byte> out(before + filled + 9, std::byte{0xA5});
      const filled_part part{.numbers = count == 0 ? nullptr : numbers.data(),
                             .count = count,
                             .zero_bytes = zero_bytes,
                             .to = out.data() + before};
      weft::kernels::cuda::fill_part(weft::kernels::reference::host_warp(), part);
      const auto is = [](std::byte value) { return [value](std::byte b) { return b == value; }; };
      const auto at = [&](std::size_t i) { return out.begin() + static_cast<std::ptrdiff_t>(i); };
      CHECK(std::all_of(at(0), at(before), is(std::byte{0xA5})));
      CHECK(std::memcmp(out.data() + before, numbers.data(), 2 * std::size_t{count}) == 0);
      CHECK(std::all_of(at(before + 2 * std::size_t{count}), at(before + filled), is(std::byte{0})));
      CHECK(std::all_of(at(before + filled), out.end(), is(std::byte{0xA5})));
    }
}
