// Blocks put together as a GPU's warps do it, on the host. Addresses in items are the device's.
#pragma once

#include <weft/device/host_device.hpp>
#include <weft/kernels/cuda/block_work.hpp>
#include <weft/kernels/dtype.hpp>

#include <cstdint>

namespace weft::engine {

void fill(const device::host_device& on, const kernels::cuda::filled_part* items, std::uint32_t count);
void gather(const device::host_device& on, const kernels::cuda::band_rows* items, std::uint32_t count,
            std::uint32_t row_bytes);
void encode(const device::host_device& on, const kernels::cuda::rows_to_encode* items, std::uint32_t count,
            std::uint32_t most_rows, std::uint32_t head_dim, kernels::dtype type);
void sum_parts(const device::host_device& on, const kernels::cuda::checked_part* parts, std::uint32_t count,
               std::uint64_t* out);

}  // namespace weft::engine
