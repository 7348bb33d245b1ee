// The two ways to drive a tier's files.
#pragma once

#include <weft/base/error.hpp>
#include <weft/tier/device.hpp>

#include "tier_files.hpp"

#include <memory>

namespace weft::tier {

// Nothing where the kernel does not allow io_uring; then `files` is untouched.
std::unique_ptr<device> make_uring_device(tier_files& files, unsigned depth);

// A few threads with pread and pwrite.
std::unique_ptr<device> make_threads_device(tier_files files);

}  // namespace weft::tier
