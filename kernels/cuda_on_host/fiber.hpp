// A stack and what runs on it, until it hands over to another one. Handing over orders nothing for
// ThreadSanitizer. Calls of the running fiber are hidden (sanitizers.hpp) while it does.
#pragma once

#include <ucontext.h>

#include <cstddef>

namespace weft::kernels::cuda_on_host {

class fiber {
 public:
  // The calling thread itself.
  fiber();
  // `body` runs when it is first handed over to, and never returns.
  explicit fiber(void (*body)());
  // It does not run; what is on its stack is not destroyed. What it did comes before what follows.
  ~fiber();
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;

  // This one runs, and goes on from here when it is handed over to again.
  void hand_over_to(fiber& next);

 private:
  static void begin();
  [[noreturn]] void go_on();

  ucontext_t context_{};  // where it begins
  void* place_[5] = {};   // where it goes on
  void (*body_)() = nullptr;
  void* memory_ = nullptr;  // a page that nobody may touch, and the stack
  void* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
  bool has_begun_ = false;
  [[maybe_unused]] void* for_thread_sanitizer_ = nullptr;
  [[maybe_unused]] void* for_address_sanitizer_ = nullptr;
};

}  // namespace weft::kernels::cuda_on_host
