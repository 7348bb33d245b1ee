// The other process of the landing test: a node that encodes documents and stores their blocks, until its
// input ends. Says its name once it has joined.
//
//   storing_node <node that holds the membership> <its control port>
#include <weft/actors/node.hpp>

#include <caf/actor_system.hpp>

#include "two_processes.hpp"
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <iostream>

int main(int argc, char** argv) {
  using weft::actors::role;
  if (argc != 3) return 2;
  auto config = weft::testing::node_of_two("storing", {role::prefill, role::storage});
  config.candidates.push_back(
      {argv[1], config.host, static_cast<std::uint16_t>(std::strtoul(argv[2], nullptr, 10))});
  weft::actors::node_environment environment;
  auto transport = weft::testing::transport_of_gets(config);
  if (!transport) {
    std::cerr << to_string(transport.error()) << '\n';
    return 1;
  }
  environment.transport = *std::move(transport);
  weft::testing::system_with_weft settings;
  caf::actor_system system(settings);
  const auto node = weft::actors::node::start(system, config, std::move(environment));
  if (!node) {
    std::cerr << to_string(node.error()) << '\n';
    return 1;
  }
  if (const auto ready = (*node)->wait_until_ready(std::chrono::minutes{1}); !ready) {
    std::cerr << to_string(ready.error()) << '\n';
    return 1;
  }
  std::cout << config.name << std::endl;
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
