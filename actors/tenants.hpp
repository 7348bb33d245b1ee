// Tenants by number, as messages and quotas have them.
#pragma once

#include <cstdint>
#include <string_view>

namespace weft::actors {

// The same in every process (FNV-1a). Two names with one number share a quota, nothing else: keys are salted
// with the name itself.
constexpr std::uint32_t tenant_number(std::string_view name) {
  std::uint32_t hash = 2166136261U;
  for (const char c : name)
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  return hash;
}

}  // namespace weft::actors
