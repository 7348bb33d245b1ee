#include "cuda_on_host/fiber.hpp"

#include "cuda_on_host/sanitizers.hpp"
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace weft::kernels::cuda_on_host {

namespace {

constexpr std::size_t bytes_of_stacks = finds_addresses ? 256 << 10 : 64 << 10;

// Whom begin() is for.
fiber* beginning = nullptr;

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

}  // namespace

fiber::fiber() {
#if defined(__SANITIZE_THREAD__)
  for_thread_sanitizer_ = __tsan_get_current_fiber();
#endif
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) throw std::bad_alloc();
  pthread_attr_getstack(&attributes, &stack_, &stack_bytes_);
  pthread_attr_destroy(&attributes);
}

fiber::fiber(void (*body)()) : body_(body), stack_bytes_(bytes_of_stacks) {
  memory_ = mmap(nullptr, page_bytes() + stack_bytes_, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory_, page_bytes(), PROT_NONE);
  stack_ = static_cast<std::byte*>(memory_) + page_bytes();
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack_;
  context_.uc_stack.ss_size = stack_bytes_;
  makecontext(&context_, &fiber::begin, 0);
#if defined(__SANITIZE_THREAD__)
  for_thread_sanitizer_ = __tsan_create_fiber(0);
#endif
}

fiber::~fiber() {
  if (memory_ == nullptr) return;
#if defined(__SANITIZE_THREAD__)
  // A thread must not end while it is hidden, as one that handed over is.
  void* const own = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(for_thread_sanitizer_, __tsan_switch_to_fiber_no_sync);
  if (has_begun_) show();
  release(this);
  __tsan_switch_to_fiber(own, __tsan_switch_to_fiber_no_sync);
  acquire(this);
  __tsan_destroy_fiber(for_thread_sanitizer_);
#endif
  allow(stack_, stack_bytes_);
  munmap(memory_, page_bytes() + stack_bytes_);
}

// swapcontext would ask the kernel for the signals each time, and AddressSanitizer's would forget what may
// not be touched on the stack that it leaves: so it is used to begin alone.
__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) void fiber::hand_over_to(
    fiber& next) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&for_address_sanitizer_, next.stack_, next.stack_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(next.for_thread_sanitizer_, __tsan_switch_to_fiber_no_sync);
#endif
  if (__builtin_setjmp(place_) == 0) {
    if (next.memory_ != nullptr && !next.has_begun_) {
      next.has_begun_ = true;
      beginning = &next;
      setcontext(&next.context_);
    }
    next.go_on();
  }
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(for_address_sanitizer_, nullptr, nullptr);
#endif
}

// A function of its own, as the builtins want it.
__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) void fiber::go_on() {
  __builtin_longjmp(place_, 1);
}

__attribute__((no_sanitize("thread"))) void fiber::begin() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
  beginning->body_();
}

}  // namespace weft::kernels::cuda_on_host
