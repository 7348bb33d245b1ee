// The other process of the UCX contract tests: says its address in hexadecimal and serves until its input
// ends.
//
//   fabric_peer <transports> <arena bytes> <map arenas: 0|1> [port]
#include <weft/fabric/ucx_transport.hpp>

#include "hexadecimal.hpp"
#include "peer_role.hpp"
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  weft::fabric::ucx_options options;
  options.transports = argv[1];
  options.arena_bytes = std::strtoull(argv[2], nullptr, 10);
  options.map_peer_arenas = std::string{argv[3]} == "1";
  if (argc > 4) options.port = static_cast<std::uint16_t>(std::strtoul(argv[4], nullptr, 10));
  auto node = weft::fabric::make_ucx_transport(options);
  if (!node) {
    std::cerr << to_string(node.error()) << '\n';
    return 1;
  }
  weft::fabric::testing::play_peer(**node);
  std::cout << weft::testing::to_hexadecimal((*node)->address()) << std::endl;
  char byte = 0;
  while (read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return 0;
}
