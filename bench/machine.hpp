// What machine this is.
#pragma once

#include <string>

namespace weft::bench {

std::string cpu_name();

}  // namespace weft::bench
