// A measured thing that fails has no figure.
#pragma once

#include <weft/base/error.hpp>

#include <stdexcept>
#include <type_traits>
#include <utility>

namespace weft::bench {

// Throws what the error says.
template <class T>
T value_of(result<T> r) {
  if (!r) throw std::runtime_error(to_string(r.error()));
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}

}  // namespace weft::bench
