// Time to the first token of a question about documents: out of another process's memory, beside recomputing
// the whole prompt.
#pragma once

#include <weft/base/error.hpp>
#include <weft/bench/report.hpp>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace weft::bench {

struct ttft_options {
  unsigned threads = 0;  // 0: one per CPU of this process
  unsigned rounds = 1;   // in each, every way is measured several times around one recomputing
  // Not 0: every way so often in turn and nothing recomputed, with computing threads and transfers on CPUs of
  // their own; `threads` 0 is then all CPUs but one.
  unsigned overlaps = 0;
  std::vector<std::string> transports = {"shm", "tcp"};
  std::vector<std::uint32_t> document_tokens = {512, 1024, 2048, 4096, 8192};  // multiples of 512
  std::filesystem::path
      folder;  // where the owner keeps a file of the blocks, to read from it, too; empty: not
  std::filesystem::path model;  // a model folder, measured up to its context; empty: none
  bool llama = true;            // the shape of Llama-3.2-1B with random weights
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress;
};

// Documents of 512 tokens in blocks of 64, a question of 32 tokens. Forks the owner of the blocks, so the
// calling process must have no other thread yet. Takes minutes: recomputing 8,192 tokens is most of it.
result<report> run_ttft(const ttft_options& options);

}  // namespace weft::bench
