// Entry of libFuzzer. Run with the folder of seeds: `manifest_fuzzer corpus/ ../tests/fuzz/seeds/manifest`.
#include "manifest_target.hpp"

#include <span>

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  weft::fuzz::read_as_manifest(std::as_bytes(std::span{data, size}));
  return 0;
}
