// Transfers between two processes of this machine through the fabric, each beside memcpy, a raw UCX loop and,
// for tcp, a plain socket stream of the same run.
#pragma once

#include <weft/base/error.hpp>
#include <weft/bench/report.hpp>

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

namespace weft::bench {

struct fabric_options {
  unsigned rounds = 15;  // in each, everything is measured once, one after the other
  std::vector<std::string> transports = {"shm", "tcp"};
  std::size_t arena_bytes = std::size_t{256} << 20;  // of each side; far beyond the cache
  // Called with every row as it is ready, on the calling thread. May be empty.
  std::function<void(const report_row&)> progress;
};

// Forks the owner of the blocks, so the calling process must have no other thread yet. Takes about a minute
// and four times `arena_bytes` of memory. Fails where UCX or the system refuses.
result<report> run_fabric(const fabric_options& options);

}  // namespace weft::bench
