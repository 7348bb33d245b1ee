// Entry of libFuzzer. Run with the folder of seeds: `tier_fuzzer corpus/ ../tests/fuzz/seeds/tier`.
#include "tier_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  weft::fuzz::read_as_headers(std::as_bytes(std::span{data, size}));
  return 0;
}
