// The arithmetic kernels at the shapes of Llama-3.2-1B with random bf16 weights, each beside its limit.
#pragma once

#include <weft/bench/report.hpp>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace weft::bench {

struct kernels_options {
  unsigned threads = 0;                // 0: one per CPU of this process
  unsigned rounds = 7;                 // each round measures a thing and its limit one after the other
  std::vector<std::string> only = {};  // of `kernel_groups`; empty: all
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress;
};

inline constexpr std::string_view kernel_groups[] = {"memory", "products",  "attention", "ragged",
                                                     "codecs", "selection", "retrieval", "layers"};

// Takes about a minute on two cores and 4 GiB of memory.
report run_kernels(const kernels_options& options);

}  // namespace weft::bench
