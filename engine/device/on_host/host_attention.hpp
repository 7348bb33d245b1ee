// Attention as a GPU's warps do it, on the host. Addresses in works are the device's.
#pragma once

#include <weft/device/host_device.hpp>
#include <weft/kernels/attention_columns.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/cuda/decode_work.hpp>
#include <weft/kernels/cuda/prefill_work.hpp>

namespace weft::engine {

void attend_decode(const device::host_device& on, const kernels::attention_shape& shape,
                   const kernels::cuda::decode_work& work);
void attend_prefill(const device::host_device& on, const kernels::attention_shape& shape,
                    const kernels::cuda::prefill_work& work, float* out, std::size_t out_stride);
void sum_lines(const device::host_device& on, const kernels::attention_shape& shape,
               const kernels::cuda::prefill_work& work, float* out);
void reduce_columns(const device::host_device& on, const kernels::attention_shape& shape,
                    const kernels::cuda::column_work& work, kernels::column_statistic statistic);

}  // namespace weft::engine
