#include <weft/engine/compute_device.hpp>

#include "open_cuda.hpp"

#include <charconv>
#include <string>

namespace weft::engine {

result<std::shared_ptr<const compute_device>> open_compute_device(std::string_view name) {
  if (name == "cpu") return nullptr;
  if (name == "auto") {
    auto first = open_cuda_device(0);
    if (!first && first.error().code == errc::unsupported) return nullptr;
    return first;
  }
  constexpr std::string_view cuda = "cuda:";
  unsigned number = 0;
  const char* const end = name.data() + name.size();
  if (name.starts_with(cuda))
    if (const auto read = std::from_chars(name.data() + cuda.size(), end, number);
        read.ec == std::errc() && read.ptr == end)
      return open_cuda_device(number);
  return fail(errc::invalid_argument, "there is no device \"" + std::string(name) +
                                          "\"; devices are \"auto\", \"cpu\", \"cuda:0\", \"cuda:1\", ...");
}

}  // namespace weft::engine
