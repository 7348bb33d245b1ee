// Runs a check with each instruction set that this CPU has and the kernels are built for.
#pragma once

#include <doctest/doctest.h>
#include <hwy/targets.h>

namespace weft::kernels::testing {

template <class Check>
void on_every_target(Check&& check) {
  for (const std::int64_t target : {HWY_SCALAR, HWY_AVX2, HWY_AVX3}) {
    hwy::SetSupportedTargetsForTest(0);
    if (target != HWY_SCALAR && (hwy::SupportedTargets() & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().DeInit();
    const char* const name = hwy::TargetName(target);
    CAPTURE(name);
    check();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().DeInit();
}

}  // namespace weft::kernels::testing
