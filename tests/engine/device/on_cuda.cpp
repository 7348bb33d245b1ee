#include <doctest/doctest.h>

#include "device_under_test.hpp"

namespace weft::engine::test {

std::shared_ptr<const compute_device> device_under_test() {
  static const auto device = [] {
    auto opened = open_compute_device("cuda:0");
    if (!opened && opened.error().code == errc::unsupported)
      MESSAGE("no CUDA device: skipped");
    else
      REQUIRE_MESSAGE(opened.has_value(), opened.error().context);
    return opened ? *opened : nullptr;
  }();
  return device;
}

}  // namespace weft::engine::test
