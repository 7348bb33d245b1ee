// What a node knows of the others: the view, and the handles of their role actors as far as they could be
// reached.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/machines/view.hpp>

#include <map>
#include <string>

namespace weft::actors {

struct cluster {
  machines::view view;
  machines::node_ref self;        // the incarnation moves on after the node was fenced
  bool in_good_standing = false;  // false: isolated or fenced, acknowledges no write
  std::map<id128, role_handles> handles;

  const machines::member* find(const id128& node) const;
  const role_handles* handles_of(const id128& node) const;
  std::string name_of(const id128& node) const;  // its id in hexadecimal when it is not in the view
};

}  // namespace weft::actors
