// Opening a folder as a file tier, and finding again what an earlier process left there.
#pragma once

#include <weft/base/error.hpp>
#include <weft/tier/device.hpp>
#include <weft/tier/file_tier.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>

namespace weft::tier {

struct device_options {
  bool io_uring = true;  // where the kernel allows it; otherwise threads with pread and pwrite
  bool direct = true;    // O_DIRECT where the file system has it
  unsigned depth = 32;
};

// Creates what is missing. `invalid_argument` or `io` where the folder cannot be used, `overloaded` while
// another process uses it. Destroying the device waits for what is under way.
result<std::unique_ptr<device>> open_file_device(const std::filesystem::path& folder,
                                                 std::uint64_t capacity_bytes, device_options options = {});

// The id in sector 0; a fresh one is written to an empty device. `wait_one`, where given, drives a device
// that does nothing by itself. Blocks.
result<id128> tier_id_of(device& on, const std::function<id128()>& fresh_id,
                         const std::function<void()>& wait_one = {});

// Shows every header of the device to `books`, many MiB-sized reads at a time, and ends its recovery. What
// cannot be read is left out. Blocks.
void recover(device& from, file_tier& books, const std::function<void()>& wait_one = {});

struct opened_tier {
  std::unique_ptr<device> on;
  file_tier books;  // recovered
};

// All of the above. `fresh_id` for a folder that is not a tier yet. Blocks.
result<opened_tier> open_tier(const std::filesystem::path& folder, const file_tier_options& options,
                              const std::function<id128()>& fresh_id);

}  // namespace weft::tier
