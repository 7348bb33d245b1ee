#include "cluster_file_target.hpp"

#include <weft/launcher/cluster_file.hpp>

#include <algorithm>
#include <set>
#include <stdexcept>
#include <string>

namespace weft::fuzz {

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::logic_error(what);
}

void check_mistake(const launcher::mistake& m) {
  require(!m.text.empty(), "a mistake without words");
  require(m.line > 0 && m.column > 0, "a mistake without a place: " + m.text);
  const bool one_line = std::none_of(m.text.begin(), m.text.end(), [](char c) {
    const auto code = static_cast<unsigned char>(c);
    return code < 0x20 || code == 0x7f;
  });
  require(one_line, "a mistake with control characters: " + m.text);
}

void check_cluster(const launcher::cluster_file& cluster) {
  require(!cluster.nodes.empty(), "a cluster without nodes");
  std::set<std::string> names;
  for (const auto& node : cluster.nodes) {
    require(!node.name.empty() && names.insert(node.name).second, "a name that is empty or taken");
    require(node.name.find_first_of("/\\ \n") == std::string::npos,
            "a name that is no file name: " + node.name);
    require(!node.roles.empty() && !node.host.empty(), "a node without a role or host");
    require(node.replicas >= 1, "no replicas");
    require(cluster.find_node(node.name) == &node, "a node that cannot be found");
  }
}

}  // namespace

bool read_as_cluster_file(std::string_view text) {
  const auto checked = launcher::parse_cluster_file(text, WEFT_SOURCE_DIR "/cluster.toml");
  require(checked.cluster.has_value() == checked.mistakes.empty(),
          "neither a cluster nor a mistake, or both");
  for (const auto& mistake : checked.mistakes)
    check_mistake(mistake);
  if (checked.cluster) check_cluster(*checked.cluster);
  return checked.cluster.has_value();
}

}  // namespace weft::fuzz
