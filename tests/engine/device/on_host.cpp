#include <weft/engine/host_compute_device.hpp>

#include "device_under_test.hpp"

namespace weft::engine::test {

std::shared_ptr<const compute_device> device_under_test() {
  static const auto device = host_compute_device(std::size_t{256} << 20U);
  return device;
}

}  // namespace weft::engine::test
