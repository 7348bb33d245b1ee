// Entry of libFuzzer. Run with the folder of seeds: `wire_fuzzer corpus/ ../tests/fuzz/seeds/wire`.
#include "wire_target.hpp"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  weft::fuzz::read_as_fabric_bytes(std::as_bytes(std::span{data, size}));
  return 0;
}
