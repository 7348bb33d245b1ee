// What sanitizers are told of fibers. Without one nothing happens.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace weft::kernels::cuda_on_host {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool finds_addresses = true;
inline void forbid(const void* from, std::size_t bytes) {
  __asan_poison_memory_region(from, bytes);
}
inline void allow(const void* from, std::size_t bytes) {
  __asan_unpoison_memory_region(from, bytes);
}
#else
inline constexpr bool finds_addresses = false;
inline void forbid(const void*, std::size_t) {}
inline void allow(const void*, std::size_t) {}
#endif

#if defined(__SANITIZE_THREAD__)
inline constexpr bool finds_races = true;
// What released a clock comes before what acquires it.
inline void acquire(void* clock) {
  __tsan_acquire(clock);
}
inline void release(void* clock) {
  __tsan_release(clock);
}
// The emulation's own memory is every fiber's, without any order between them.
inline void hide() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
inline void show() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
#else
inline constexpr bool finds_races = false;
inline void acquire(void*) {}
inline void release(void*) {}
inline void hide() {}
inline void show() {}
#endif

// What the running fiber does meanwhile is no access of the thread that it emulates.
class hidden {
 public:
  hidden() { hide(); }
  ~hidden() { show(); }
  hidden(const hidden&) = delete;
  hidden& operator=(const hidden&) = delete;
};

}  // namespace weft::kernels::cuda_on_host
