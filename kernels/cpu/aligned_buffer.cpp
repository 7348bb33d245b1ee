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
  // Not rounded up to whole huge pages: a cache of little more than one would take two.
  const std::size_t alignment = size_bytes >= huge_page_bytes ? huge_page_bytes : cache_line_bytes;
  void* memory = nullptr;
  if (::posix_memalign(&memory, alignment, round_up(size_bytes, cache_line_bytes)) != 0)
    throw std::bad_alloc();
  bytes_.reset(static_cast<std::byte*>(memory));
  // Advice only: without huge pages everything works, just with more TLB misses.
  const std::size_t whole_pages_bytes = size_bytes / huge_page_bytes * huge_page_bytes;
  if (whole_pages_bytes != 0) ::madvise(memory, whole_pages_bytes, MADV_HUGEPAGE);
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
