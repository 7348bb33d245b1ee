// Where the variables of block_variables.hpp lie, for blocks that run one after the other.
#pragma once

#include "cuda_on_host/place.hpp"

#include <array>
#include <cstddef>
#include <memory>

namespace weft::kernels::cuda_on_host {

// What a block has without asking for more; weft's kernels never do.
inline constexpr std::size_t most_block_bytes = 48 << 10;

class block_memory_pool {
 public:
  block_memory_pool();
  ~block_memory_pool();
  block_memory_pool(const block_memory_pool&) = delete;
  block_memory_pool& operator=(const block_memory_pool&) = delete;

  // For the next block: nothing is there any more but what the launch asked for.
  void begin(std::size_t bytes_of_launch);
  // Null where the block would have more than most_block_bytes.
  void* variable(std::size_t bytes, std::size_t alignment, const source_place& at);
  void* of_launch() { return bytes_.get(); }
  bool has(const void* address, std::size_t bytes) const;

 private:
  struct free_bytes {
    void operator()(std::byte* bytes) const;
  };
  struct declared {
    source_place at;
    std::byte* memory;
  };
  static constexpr std::size_t gap_bytes = 64;
  static constexpr std::size_t most_variables = 16;
  static constexpr std::size_t pool_bytes = most_block_bytes + (most_variables + 2) * 2 * gap_bytes;

  std::byte* take(std::size_t bytes, std::size_t alignment);

  std::unique_ptr<std::byte[], free_bytes> bytes_;
  std::array<declared, most_variables> variables_;
  std::size_t variable_count_ = 0;
  std::size_t wanted_bytes_ = 0;
  std::size_t used_bytes_ = 0;
};

}  // namespace weft::kernels::cuda_on_host
