// What the bytes under a key are. The pool treats all alike; the directory lists manifests as documents.
#pragma once

#include <cstdint>

namespace weft::machines {

enum class item_kind : std::uint8_t {
  block = 0,
  manifest = 1,
  opaque = 2,  // bytes of another engine
};

}  // namespace weft::machines
