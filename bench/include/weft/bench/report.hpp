// What every bench gives: figures beside the limit that was measured in the same run.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace weft::bench {

struct report_row {
  std::string name{};       // what was measured, with its shape: "attention d=64 rows=8192"
  std::string operation{};  // prefill, decode, decode_attention, rotate_scatter, product, read, copy, ...
  std::optional<double> gb_per_s{};
  std::optional<double> gflop_per_s{};
  std::string limit_name{};  // empty: a limit itself
  std::optional<double> limit_gb_per_s{};
  std::optional<double> limit_gflop_per_s{};
  std::optional<double> ratio{};  // median over interleaved rounds of limit time / time
  std::optional<double> tokens_per_s{};
  std::string transport{};  // shm, view, tcp, file, local; empty where it does not apply
  std::optional<bool> verified{};
  std::optional<std::size_t> size_bytes{};  // of one block
  std::optional<std::size_t> batch{};       // blocks of one operation
  std::optional<std::size_t> clients{};
  std::optional<std::size_t> tokens{};  // of the documents of a prompt
  std::optional<double> first_token_ms{};
  std::string source{};               // of a prompt's documents: memory, file
  std::optional<double> load_ms{};    // of the first token: from the other process, proven, alone
  std::optional<double> waited_ms{};  // for bytes, while layers came and were computed side by side
  std::optional<double> rotate_ms{};
  std::optional<double> compute_ms{};
  std::optional<double> hidden{};  // (load + compute - first token) / the shorter of load and compute
  std::optional<double> us_p50{};  // of one operation at a time
  std::optional<double> us_p99{};
  std::optional<double> us_p999{};
  std::string policy{};                    // of eviction; empty where it does not apply
  std::optional<double> hit_rate{};        // 0 .. 1
  std::optional<double> limit_hit_rate{};  // ratio: hit rate / this
  std::optional<double> saved_cost{};      // of all cost of computing what was asked for, 0 .. 1
  std::optional<double> per_second{};      // operations of one core
  std::optional<double> bytes_per_entry{};
  std::optional<double> lost_fraction{};  // of a range, to holes
};

struct machine_facts {
  std::string cpu{};
  unsigned threads = 0;
  bool native_bf16 = false;
};

struct report {
  machine_facts machine;
  std::vector<report_row> rows;
};

}  // namespace weft::bench
