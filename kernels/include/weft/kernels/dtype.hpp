// The element types that KV rows and weights come in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace weft::kernels {

enum class dtype : std::uint8_t { f32 = 0, f16 = 1, bf16 = 2 };

constexpr std::size_t size_bytes(dtype type) {
  return type == dtype::f32 ? 4 : 2;
}

constexpr std::string_view name_of(dtype type) {
  return type == dtype::f32 ? "f32" : type == dtype::f16 ? "f16" : "bf16";
}

constexpr std::optional<dtype> dtype_from_name(std::string_view name) {
  if (name == "f32") return dtype::f32;
  if (name == "f16") return dtype::f16;
  if (name == "bf16") return dtype::bf16;
  return std::nullopt;
}

}  // namespace weft::kernels
