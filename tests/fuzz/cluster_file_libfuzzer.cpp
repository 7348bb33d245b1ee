// Entry of libFuzzer. Run with the folder of seeds: `cluster_file_fuzzer corpus/
// ../tests/fuzz/seeds/cluster_file`.
#include "cluster_file_target.hpp"

#include <cstddef>

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  weft::fuzz::read_as_cluster_file({reinterpret_cast<const char*>(data), size});
  return 0;
}
