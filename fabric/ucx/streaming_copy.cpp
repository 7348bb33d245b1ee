#include "ucx/streaming_copy.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace weft::fabric {

#if defined(__SSE2__)

namespace {

constexpr std::size_t line_bytes = 64;
constexpr std::size_t ahead_bytes = 1024;  // that the loads of a page do not fetch by themselves soon enough

void stream_line(std::byte* to, const std::byte* from) {
  const auto* in = reinterpret_cast<const __m128i*>(from);
  auto* out = reinterpret_cast<__m128i*>(to);
  const auto a = _mm_loadu_si128(in);
  const auto b = _mm_loadu_si128(in + 1);
  const auto c = _mm_loadu_si128(in + 2);
  const auto d = _mm_loadu_si128(in + 3);
  _mm_stream_si128(out, a);
  _mm_stream_si128(out + 1, b);
  _mm_stream_si128(out + 2, c);
  _mm_stream_si128(out + 3, d);
}

}  // namespace

void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  const auto misaligned = reinterpret_cast<std::uintptr_t>(to) % line_bytes;
  const auto head = std::min(bytes, misaligned == 0 ? 0 : line_bytes - misaligned);
  std::memcpy(to, from, head);
  std::size_t at = head;
  for (; at + line_bytes <= bytes; at += line_bytes) {
    _mm_prefetch(reinterpret_cast<const char*>(from + at) + ahead_bytes, _MM_HINT_NTA);
    stream_line(to + at, from + at);
  }
  std::memcpy(to + at, from + at, bytes - at);
  _mm_sfence();
}

#else

void streaming_copy(std::byte* to, const std::byte* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

#endif

}  // namespace weft::fabric
