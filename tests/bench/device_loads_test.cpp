#include <weft/bench/device_loads.hpp>
#include <weft/device/host_device.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/host_compute_device.hpp>

#include <doctest/doctest.h>

#include <memory>

using namespace weft;
using bench::device_loads_options;
using bench::run_device_loads;

TEST_CASE("what comes to a device is measured by every way, beside a bare copy") {
  const auto device = engine::host_compute_device(std::size_t{256} << 20U);
  const auto& memory = dynamic_cast<const device::host_device&>(*device->memory);
  device_loads_options options{.device = "likeness",
                               .open = [&](std::string_view) { return device; },
                               .rounds = 2,
                               .tokens = {64, 128}};
  std::size_t shown = 0;
  options.progress = [&](const bench::report_row&) { ++shown; };
  const auto report = run_device_loads(options);
  REQUIRE_MESSAGE(report.has_value(), report.error().context);

  constexpr std::size_t token_bytes = std::size_t{16} * 2 * 8 * 64 * 2;
  CHECK(memory.counts().upload_bytes >= 2 * 3 * 2 * (64 + 128) * token_bytes);
  REQUIRE(report->rows.size() == 8);  // of the first way also what is here, and there, already
  CHECK(shown == 8);
  for (const auto& row : report->rows) {
    CAPTURE(row.name);
    CHECK(row.name.find(device->memory->name()) != std::string::npos);
    CHECK(row.gb_per_s.value_or(0) > 0);
    CHECK(row.limit_gb_per_s.value_or(0) > 0);
    CHECK(row.ratio.value_or(0) > 0);
  }
  CHECK(report->rows[0].transport == "local");
  CHECK(report->rows[1].operation == "device_landing");
  CHECK(report->rows[2].transport == "shm");
  CHECK(report->rows[7].transport == "tcp");
}

TEST_CASE("without a device there is nothing to measure, and the error names it") {
  const auto none = run_device_loads({.device = "cuda:1000", .transports = {"shm"}});
  REQUIRE_FALSE(none);
  CHECK(none.error().code == errc::unsupported);

  const auto cpu = run_device_loads({.device = "cpu", .transports = {"shm"}});
  REQUIRE_FALSE(cpu);
  CHECK(cpu.error().code == errc::unsupported);
  CHECK(cpu.error().context.find("cpu") != std::string::npos);

  const auto odd = run_device_loads({.tokens = {100}});
  REQUIRE_FALSE(odd);
  CHECK(odd.error().code == errc::invalid_argument);
}
