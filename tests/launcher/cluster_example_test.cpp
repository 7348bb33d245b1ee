#include <weft/launcher/cluster_file.hpp>

#include <doctest/doctest.h>

#include "temporary_folder.hpp"

#include <algorithm>

using namespace weft::launcher;
using weft::actors::role;

namespace {

std::string example_of(unsigned nodes, const std::filesystem::path& model) {
  example_options options;
  options.nodes = nodes;
  options.model_folder = model;
  return example_cluster_file(options);
}

std::size_t count(const cluster_file& cluster, role r) {
  return static_cast<std::size_t>(
      std::count_if(cluster.nodes.begin(), cluster.nodes.end(), [r](const auto& node) {
        return std::find(node.roles.begin(), node.roles.end(), r) != node.roles.end();
      }));
}

}  // namespace

TEST_CASE("the example is a cluster file without mistakes, for any number of nodes") {
  const temporary_folder folder;
  folder.write("model with \"quotes\"/config.json", "{}");
  for (const unsigned nodes : {1U, 2U, 3U, 4U, 7U, 64U}) {
    CAPTURE(nodes);
    const auto text = example_of(nodes, folder.path() / "model with \"quotes\"");
    const auto checked = parse_cluster_file(text, folder.path() / "cluster.toml");
    for (const auto& m : checked.mistakes)
      FAIL_CHECK(to_string("example", m));
    REQUIRE(checked.cluster);
    CHECK(checked.cluster->nodes.size() == nodes);
    CHECK(checked.cluster->nodes_here().size() == nodes);
    CHECK(count(*checked.cluster, role::gateway) == 1);
    CHECK(checked.cluster->gateway.listen.port == 7600);
  }
}

TEST_CASE("four nodes: one prefill, two storage, one decode with the gateway; every block twice") {
  const temporary_folder folder;
  folder.write("model/config.json", "{}");
  const auto text = example_of(4, folder.path() / "model");
  const auto cluster = parse_cluster_file(text, folder.path() / "cluster.toml").cluster;
  REQUIRE(cluster);
  CHECK(cluster->nodes[0].roles == std::vector{role::prefill});
  CHECK(cluster->nodes[1].roles == std::vector{role::storage});
  CHECK(cluster->nodes[2].roles == std::vector{role::storage});
  CHECK(cluster->nodes[3].roles == std::vector{role::decode, role::gateway});
  CHECK(cluster->nodes[0].replicas == 2);
  CHECK(text.find("\nreplicas = 2\n") != std::string::npos);
  CHECK(text.find("\nmodel = \"") != std::string::npos);
}
