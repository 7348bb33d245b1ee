#include <weft/device/cuda_device.hpp>

#include <stdexcept>

namespace weft::device {

result<std::shared_ptr<device>> open_cuda(unsigned) {
  return fail(errc::unsupported,
              "this weft was built without CUDA; take the CPU, or build with "
              "`scripts/build cuda` where the CUDA toolkit is");
}

CUstream_st* cuda_handle(stream&) {
  throw std::logic_error("there are no CUDA streams in a build without CUDA");
}

void note_cuda(stream& s, int, std::string_view) {
  cuda_handle(s);
}

}  // namespace weft::device
