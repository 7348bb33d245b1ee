// What KVzip's and KVzap's scores cost beside the prefill of what they score: layers of Llama-3.2-1B's shape
// with random bf16 weights, where products of weights take most of the time, as in real models.
#pragma once

#include <weft/bench/report.hpp>

#include <cstdint>
#include <functional>
#include <vector>

namespace weft::bench {

struct scoring_options {
  unsigned threads = 0;  // 0: one per CPU of this process
  unsigned rounds = 1;   // in each, a prefill, a prefill with its scores and another prefill
  std::uint32_t layers = 3;
  std::vector<std::uint32_t> tokens = {2048, 8192};
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress;
};

// Each row's ratio: the prefill's processor time / what scoring takes of it beyond the prefill. KVzap's
// guesses are timed one by one within a prefill.
report run_scoring(const scoring_options& options);

}  // namespace weft::bench
