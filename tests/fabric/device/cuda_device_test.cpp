// A real device. Skipped, and said so, where there is none.
#include <weft/device/cuda_device.hpp>

#include "contract.hpp"

using namespace weft::device;
using namespace weft::device::test;

TEST_CASE("a CUDA device copies in order and refuses what it has not") {
  const auto opened = open_cuda(0);
  if (!opened && opened.error().code == weft::errc::unsupported) {
    MESSAGE("no CUDA device: skipped");
    return;
  }
  REQUIRE_MESSAGE(opened.has_value(), opened.error().context);
  CHECK((*opened)->name().starts_with("cuda:0"));
  check_copies(**opened);
  check_order(**opened);
  check_memory(**opened);
  check_recordings(**opened);
}
