// The names that devices have in cluster files and options.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <string_view>

namespace weft::engine {

enum class device_choice : std::uint8_t { cpu, automatic, cuda };

struct device_name {
  device_choice choice = device_choice::cpu;
  unsigned number = 0;  // of a CUDA device
};

// "cpu", "auto", "cuda:0", "cuda:1", ...; `invalid_argument` names what there is.
result<device_name> device_from_name(std::string_view name);

}  // namespace weft::engine
