#include <weft/actors/cluster.hpp>

namespace weft::actors {

const machines::member* cluster::find(const id128& node) const {
  return machines::find(view, node);
}

const role_handles* cluster::handles_of(const id128& node) const {
  const auto found = handles.find(node);
  return found == handles.end() ? nullptr : &found->second;
}

std::string cluster::name_of(const id128& node) const {
  const auto* member = find(node);
  return member ? member->name : to_hex(node);
}

}  // namespace weft::actors
