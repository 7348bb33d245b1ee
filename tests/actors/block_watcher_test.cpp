#include <weft/actors/block_watcher.hpp>

#include <doctest/doctest.h>

#include <array>
#include <stdexcept>

using namespace weft;

TEST_CASE("a watcher comes back to the stock it was taken from, and remembers nothing") {
  actors::watcher_stock stock;
  auto first = stock.take();
  const auto* taken = first.get();
  first->expect({});
  const std::array<std::byte, 8> nonsense{};
  first->arrived(0, nonsense);
  SUBCASE("while another is in use") {
    CHECK(stock.take().get() != taken);
  }
  first.reset();
  const auto again = stock.take();
  CHECK(again.get() == taken);
  CHECK_THROWS_AS(static_cast<void>(again->complete(0)), std::out_of_range);
}

TEST_CASE("a watcher may outlive its stock") {
  auto stock = std::make_unique<actors::watcher_stock>();
  auto watcher = stock->take();
  stock.reset();
  watcher->expect({});
  CHECK_FALSE(watcher->complete(0));
}
