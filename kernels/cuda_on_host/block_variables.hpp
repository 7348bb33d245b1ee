// The memory that the threads of a block share. It is not a number before somebody writes it, at the start of
// every block; bytes between variables are no memory for AddressSanitizer.
#pragma once

#include "cuda_on_host/place.hpp"

#include <cstddef>
#include <type_traits>

namespace weft::kernels::cuda_on_host {

// Of the block that runs: the same memory for all threads that come here from the same place of the source.
void* block_memory(std::size_t bytes, std::size_t alignment, source_place at);
// As many bytes as the launch asked for.
void* block_memory_of_launch();
// Ends the launch with a report where these bytes are none of the block's memory, or do not begin at a
// multiple of their number.
void require_block_memory(const char* what, const void* address, std::size_t bytes, source_place at);

template <class T>
T& block_variable(source_place at = source_place::here()) {
  static_assert(std::is_trivially_default_constructible_v<T>, "CUDA does not construct what a block shares");
  return *static_cast<T*>(block_memory(sizeof(T), alignof(T), at));
}

template <class T>
T* memory_of_launch() {
  return static_cast<T*>(block_memory_of_launch());
}

}  // namespace weft::kernels::cuda_on_host
