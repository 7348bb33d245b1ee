#include <weft/device/cuda_device.hpp>

#include <doctest/doctest.h>

TEST_CASE("a CUDA device that is not there is refused, and the remedy named") {
  const auto opened = weft::device::open_cuda(1000);
  REQUIRE(!opened);
  CHECK(opened.error().code == weft::errc::unsupported);
  const bool remedy = opened.error().context.find("take the CPU") != std::string::npos ||
                      opened.error().context.find("devices are 0 to") != std::string::npos;
  CHECK_MESSAGE(remedy, opened.error().context);
}
