// CUDA devices, where weft is built with CUDA.
#pragma once

#include <weft/device/device.hpp>

#include <span>

struct CUstream_st;

namespace weft::device {

// `unsupported` in a build without CUDA, and where there is no device of this number: says which there are.
result<std::shared_ptr<device>> open_cuda(unsigned number);

// The host's memory, on whole pages, that copies of every CUDA device read and write while the program goes
// on, as long as the object or a copy of it lives. Elsewhere a copy goes through a buffer of CUDA's own.
using pinned_range = std::shared_ptr<const void>;
result<pinned_range> pin(std::span<std::byte> bytes);

// Of a stream that an open_cuda device made, for kernels: its device is the thread's current one then.
CUstream_st* cuda_handle(stream& s);

// What a call of CUDA's for this stream returned (a cudaError_t): what is not success is told by `wait`.
void note_cuda(stream& s, int status, std::string_view what);

}  // namespace weft::device
