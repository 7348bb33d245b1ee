#include <weft/engine/compute_device.hpp>
#include <weft/engine/device_name.hpp>

#include "open_cuda.hpp"

#include <charconv>
#include <string>

namespace weft::engine {

result<device_name> device_from_name(std::string_view name) {
  if (name == "cpu") return device_name{device_choice::cpu};
  if (name == "auto") return device_name{device_choice::automatic};
  constexpr std::string_view cuda = "cuda:";
  unsigned number = 0;
  const char* const end = name.data() + name.size();
  if (name.starts_with(cuda))
    if (const auto read = std::from_chars(name.data() + cuda.size(), end, number);
        read.ec == std::errc() && read.ptr == end)
      return device_name{device_choice::cuda, number};
  return fail(errc::invalid_argument, "there is no device `" + std::string(name) +
                                          "`; there are `cpu`, `auto` and `cuda:0`, `cuda:1`, ...");
}

result<std::shared_ptr<const compute_device>> open_compute_device(std::string_view name) {
  const auto wanted = device_from_name(name);
  if (!wanted) return tl::unexpected(wanted.error());
  if (wanted->choice == device_choice::cpu) return nullptr;
  auto opened = open_cuda_device(wanted->number);
  const bool none = !opened && opened.error().code == errc::unsupported;
  if (none && wanted->choice == device_choice::automatic) return nullptr;
  return opened;
}

}  // namespace weft::engine
