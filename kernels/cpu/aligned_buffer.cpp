#include <weft/kernels/aligned_buffer.hpp>

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace weft::kernels {

namespace {

constexpr std::size_t cache_line_bytes = 64;
constexpr std::size_t huge_page_bytes = std::size_t{2} << 20;

std::size_t round_up(std::size_t size_bytes, std::size_t multiple) {
  return (size_bytes + multiple - 1) / multiple * multiple;
}

}  // namespace

aligned_buffer::aligned_buffer(std::size_t size_bytes) : size_bytes_(size_bytes) {
  if (size_bytes == 0) return;
  const std::size_t alignment = size_bytes >= huge_page_bytes ? huge_page_bytes : cache_line_bytes;
  void* memory = std::aligned_alloc(alignment, round_up(size_bytes, alignment));
  if (memory == nullptr) throw std::bad_alloc();
  // Advice only: without huge pages everything works, just with more TLB misses.
  if (alignment == huge_page_bytes) ::madvise(memory, round_up(size_bytes, alignment), MADV_HUGEPAGE);
  bytes_.reset(static_cast<std::byte*>(memory));
}

void aligned_buffer::release::operator()(std::byte* memory) const noexcept {
  std::free(memory);
}

std::span<std::byte> workspace::reserve(std::size_t size_bytes) {
  if (buffer_.size_bytes() < size_bytes) {
    buffer_ = aligned_buffer();
    buffer_ = aligned_buffer(size_bytes);
  }
  return {buffer_.data(), size_bytes};
}

}  // namespace weft::kernels
