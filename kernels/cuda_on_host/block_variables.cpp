#include "cuda_on_host/block_variables.hpp"

#include "cuda_on_host/multiprocessor.hpp"
#include "cuda_on_host/sanitizers.hpp"

#include <cstdint>

namespace weft::kernels::cuda_on_host {

void* block_memory(std::size_t bytes, std::size_t alignment, source_place at) {
  const hidden from_sanitizers;
  void* const memory = multiprocessor::running().memory().variable(bytes, alignment, at);
  if (memory == nullptr)
    multiprocessor::running().give_up("the block's variables take more than 48 KiB, or are too many");
  return memory;
}

void* block_memory_of_launch() {
  return multiprocessor::running().memory().of_launch();
}

void require_block_memory(const char* what, const void* address, std::size_t bytes, source_place at) {
  const hidden from_sanitizers;
  const auto give_up = [&](const char* why) {
    multiprocessor::running().give_up(what, " of line ", at.line, " is given ", why);
  };
  if (!multiprocessor::running().memory().has(address, bytes)) give_up("what is not the block's memory");
  if (reinterpret_cast<std::uintptr_t>(address) % bytes != 0) give_up("an address that is not aligned");
}

}  // namespace weft::kernels::cuda_on_host
