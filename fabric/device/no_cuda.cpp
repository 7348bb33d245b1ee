#include <weft/device/cuda_device.hpp>

#include <stdexcept>

namespace weft::device {

namespace {

auto without_cuda() {
  return fail(errc::unsupported,
              "this weft was built without CUDA; take the CPU, or build with "
              "`scripts/build cuda` where the CUDA toolkit is");
}

}  // namespace

result<std::shared_ptr<device>> open_cuda(unsigned) {
  return without_cuda();
}

result<pinned_range> pin(std::span<std::byte>) {
  return without_cuda();
}

CUstream_st* cuda_handle(stream&) {
  throw std::logic_error("there are no CUDA streams in a build without CUDA");
}

void note_cuda(stream& s, int, std::string_view) {
  cuda_handle(s);
}

}  // namespace weft::device
