// Short names for what the tests of the machines speak about.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/view.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <variant>
#include <vector>

namespace weft::machines::test {

inline time_point at_ms(std::int64_t ms) {
  return time_point{} + std::chrono::milliseconds(ms);
}

// Spread like real keys.
inline id128 key_of(std::uint64_t n) {
  const std::uint64_t h = (n + 1) * 0x9e3779b97f4a7c15ULL;
  return {h ^ (h >> 29), h * 0xbf58476d1ce4e5b9ULL + n};
}

inline node_ref node(std::uint64_t n, std::uint64_t incarnation = 1) {
  return {{77, n + 1}, incarnation};
}

inline member member_of(std::uint64_t n, std::uint64_t incarnation = 1, std::uint32_t roles = 0b10) {
  member m;
  m.ref = node(n, incarnation);
  m.name = "node-" + std::to_string(n);
  m.roles = roles;
  m.host = "127.0.0.1";
  m.control_port = static_cast<std::uint16_t>(4000 + n);
  return m;
}

// The actions of one kind, in order.
template <class T, class Actions>
std::vector<T> only(const Actions& actions) {
  std::vector<T> found;
  for (const auto& action : actions) {
    if (const T* it = std::get_if<T>(&action)) found.push_back(*it);
  }
  return found;
}

}  // namespace weft::machines::test
