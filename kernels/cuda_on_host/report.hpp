// What went wrong in launches, and in which order threads run: for tests.
#pragma once

#include <cstdint>
#include <string>

namespace weft::kernels::cuda_on_host {

// Why a launch was given up (cudaErrorLaunchFailure): the kernel, the block, who waited for what, where. It
// is written to stderr, too. Empty where nothing was since cudaDeviceReset.
std::string last_report();

// Blocks and, between two waits, threads run in an order that is drawn anew for each launch; from the same
// seed on it is the same. The first one is WEFT_SEED, or 1.
void draw_orders_from(std::uint64_t seed);

}  // namespace weft::kernels::cuda_on_host
