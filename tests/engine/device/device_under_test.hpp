// The device that these tests run on: the host's likeness of one, or a real one.
#pragma once

#include <weft/engine/compute_device.hpp>

#include <memory>

namespace weft::engine::test {

// Null where there is none: the test is skipped, and says so.
std::shared_ptr<const compute_device> device_under_test();

}  // namespace weft::engine::test
