// One life of one node. A node that was declared dead comes back under the same id with a higher incarnation,
// so that whatever its former life still says is told apart.
#pragma once

#include <weft/base/id128.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace weft::machines {

struct node_ref {
  id128 node;
  std::uint64_t incarnation = 0;

  friend constexpr auto operator<=>(const node_ref&, const node_ref&) = default;
};

}  // namespace weft::machines

template <>
struct std::hash<weft::machines::node_ref> {
  std::size_t operator()(const weft::machines::node_ref& ref) const noexcept {
    return std::hash<weft::id128>{}(ref.node) ^ (ref.incarnation * 0xbf58476d1ce4e5b9ULL);
  }
};
