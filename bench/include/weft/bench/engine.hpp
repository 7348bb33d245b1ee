// The whole engine at the shape of Llama-3.2-1B with random bf16 weights: what a user waits for, each figure
// beside its limit.
#pragma once

#include <weft/bench/report.hpp>

#include <functional>

namespace weft::bench {

struct engine_options {
  unsigned threads = 0;  // 0: one per CPU of this process
  unsigned rounds = 5;   // each round measures a thing and its limit one after the other
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress;
};

// Takes about two minutes on two cores and 5 GiB of memory.
report run_engine(const engine_options& options);

// What ATSKV adds to a decode step behind 2048 tokens, 512 of which are resident: without a passive store,
// with one in this process, and with one in the memory of another, by shared memory (hit_rate: the part of
// the promotions that were there when their layer began to attend). Forks: before this process has threads.
// Takes about a minute on two cores and 6 GiB of memory.
report run_adaptive(const engine_options& options);

// Decode steps with a quarter of the blocks chosen one layer ahead, beside steps that see all rows: the shape
// of the shipped model and that of Llama-3.2-1B, random weights, documents of noise (hit_rate: the part of
// the chosen blocks that did not have to move). Takes about a minute on two cores and 5 GiB of memory.
report run_sparse(const engine_options& options);

}  // namespace weft::bench
