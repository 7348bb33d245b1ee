// Documents out of another process's pool into the memory of a device, beside a bare copy of as many pinned
// bytes.
#pragma once

#include <weft/base/error.hpp>
#include <weft/bench/report.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace weft::engine {
struct compute_device;
}

namespace weft::bench {

// As `engine::open_compute_device`; null is the CPU.
using device_opener =
    std::function<result<std::shared_ptr<const engine::compute_device>>(std::string_view name)>;

struct device_loads_options {
  std::string device = "cuda:0";  // as a cluster file names it
  device_opener open = {};        // empty: engine::open_compute_device
  unsigned rounds = 15;           // in each, everything is measured once, one after the other
  std::vector<std::string> transports = {"shm", "tcp"};
  std::vector<std::uint32_t> tokens = {512, 2048, 8192};  // of the documents; multiples of 64
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress = {};
};

// Keys and values of Llama-3.2-1B's shape in bf16, 32 KiB a token. Forks the owner of the blocks, so the
// calling process must have no other thread yet. `unsupported` where weft or the machine has no such device,
// and for the CPU.
result<report> run_device_loads(const device_loads_options& options);

}  // namespace weft::bench
