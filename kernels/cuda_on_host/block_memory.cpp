#include "cuda_on_host/block_memory.hpp"

#include "cuda_on_host/place.hpp"
#include "cuda_on_host/sanitizers.hpp"

#include <cstdint>
#include <cstring>
#include <new>

namespace weft::kernels::cuda_on_host {

namespace {

constexpr std::size_t widest_alignment = 256;

std::size_t rounded_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

}  // namespace

void block_memory_pool::free_bytes::operator()(std::byte* bytes) const {
  ::operator delete[](bytes, std::align_val_t{widest_alignment});
}

block_memory_pool::block_memory_pool()
    : bytes_(static_cast<std::byte*>(::operator new[](pool_bytes, std::align_val_t{widest_alignment}))) {
  std::memset(bytes_.get(), 0xFF, pool_bytes);
}

block_memory_pool::~block_memory_pool() {
  allow(bytes_.get(), pool_bytes);
}

void block_memory_pool::begin(std::size_t bytes_of_launch) {
  allow(bytes_.get(), used_bytes_);
  std::memset(bytes_.get(), 0xFF, used_bytes_);
  forbid(bytes_.get(), pool_bytes);
  variable_count_ = 0;
  wanted_bytes_ = 0;
  used_bytes_ = 0;
  take(bytes_of_launch, 1);
}

std::byte* block_memory_pool::take(std::size_t bytes, std::size_t alignment) {
  wanted_bytes_ = rounded_up(wanted_bytes_, alignment) + bytes;
  if (wanted_bytes_ > most_block_bytes) return nullptr;
  std::byte* const memory = bytes_.get() + rounded_up(used_bytes_, gap_bytes);
  allow(memory, bytes);
  used_bytes_ = rounded_up(used_bytes_, gap_bytes) + bytes + gap_bytes;
  return memory;
}

void* block_memory_pool::variable(std::size_t bytes, std::size_t alignment, const source_place& at) {
  for (std::size_t i = 0; i < variable_count_; ++i)
    if (variables_[i].at == at) return variables_[i].memory;
  if (variable_count_ == most_variables || alignment > gap_bytes) return nullptr;
  std::byte* const memory = take(bytes, alignment);
  if (memory != nullptr) variables_[variable_count_++] = {at, memory};
  return memory;
}

bool block_memory_pool::has(const void* address, std::size_t bytes) const {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes_.get());
  return at >= begin && at + bytes <= begin + used_bytes_;
}

}  // namespace weft::kernels::cuda_on_host
