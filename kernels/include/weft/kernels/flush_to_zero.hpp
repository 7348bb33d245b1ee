// While it lives, what this thread computes below 2^-126 is 0, on x86: such a number costs the CPU more than
// a hundred cycles. For sums in which it counts nowhere.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace weft::kernels {

class flush_to_zero {
 public:
#if defined(__x86_64__)
  flush_to_zero() : before_(_mm_getcsr()) {
    _mm_setcsr(before_ | results_and_operands);
  }
  ~flush_to_zero() {
    _mm_setcsr(before_);
  }
#else
  flush_to_zero() {}
  ~flush_to_zero() {}
#endif
  flush_to_zero(const flush_to_zero&) = delete;
  flush_to_zero& operator=(const flush_to_zero&) = delete;

 private:
#if defined(__x86_64__)
  static constexpr unsigned results_and_operands = 0x8040;
  unsigned before_;
#endif
};

}  // namespace weft::kernels
