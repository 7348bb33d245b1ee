// The live nodes of a cluster at one epoch, as the membership publishes them.
#pragma once

#include <weft/machines/node_ref.hpp>

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace weft::machines {

struct member {
  node_ref ref;
  std::string name;         // of the cluster file; one live member has it
  std::uint32_t roles = 0;  // bit i: role i
  std::string host;
  std::uint16_t control_port = 0;
  std::string fabric_address;  // opaque bytes
  std::uint64_t capacity_bytes = 0;
  std::uint32_t pid = 0;

  friend bool operator==(const member&, const member&) = default;
};

struct view {
  std::uint64_t epoch = 0;      // 0: no view yet
  std::vector<member> members;  // ascending by name
  node_ref coordinator{};       // who published it

  friend bool operator==(const view&, const view&) = default;
};

// nullptr where there is none. Valid as long as the view is.
const member* find(const view& v, std::string_view name);
const member* find(const view& v, const id128& node);
const member* find(const view& v, const node_ref& ref);

constexpr bool has_role(const member& m, unsigned role_bit) {
  return ((m.roles >> role_bit) & 1U) != 0;
}

// The members with that role, in the view's order.
std::vector<node_ref> with_role(const view& v, unsigned role_bit);

struct view_difference {
  std::vector<node_ref> gone;    // in `before` and not in `after`: dead, left, or replaced by a later life
  std::vector<node_ref> joined;  // in `after` and not in `before`
};

view_difference difference(const view& before, const view& after);

}  // namespace weft::machines
