#include <weft/machines/view.hpp>

#include <algorithm>

namespace weft::machines {
namespace {

template <class Predicate>
const member* find_where(const view& v, Predicate matches) {
  const auto at = std::ranges::find_if(v.members, matches);
  return at == v.members.end() ? nullptr : &*at;
}

std::vector<node_ref> missing_in(const view& other, const view& v) {
  std::vector<node_ref> refs;
  for (const member& m : v.members) {
    if (find(other, m.ref) == nullptr) refs.push_back(m.ref);
  }
  return refs;
}

}  // namespace

const member* find(const view& v, std::string_view name) {
  return find_where(v, [&](const member& m) { return m.name == name; });
}

const member* find(const view& v, const id128& node) {
  return find_where(v, [&](const member& m) { return m.ref.node == node; });
}

const member* find(const view& v, const node_ref& ref) {
  return find_where(v, [&](const member& m) { return m.ref == ref; });
}

std::vector<node_ref> with_role(const view& v, unsigned role_bit) {
  std::vector<node_ref> refs;
  for (const member& m : v.members) {
    if (has_role(m, role_bit)) refs.push_back(m.ref);
  }
  return refs;
}

view_difference difference(const view& before, const view& after) {
  return {.gone = missing_in(after, before), .joined = missing_in(before, after)};
}

}  // namespace weft::machines
