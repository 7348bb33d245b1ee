// Entry of libFuzzer. Run with the folder of seeds: `block_fuzzer corpus/ ../tests/fuzz/seeds/block`.
#include "block_target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  weft::fuzz::read_as_block(std::as_bytes(std::span{data, size}));
  return 0;
}
