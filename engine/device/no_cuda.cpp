#include "open_cuda.hpp"

namespace weft::engine {

result<std::shared_ptr<const compute_device>> open_cuda_device(unsigned number) {
  const auto opened = device::open_cuda(number);
  return tl::unexpected(opened.error());
}

}  // namespace weft::engine
