// The file tier beside its disk.
#pragma once

#include <weft/base/error.hpp>
#include <weft/bench/pool.hpp>

#include <vector>

namespace weft::bench {

// Rows: blocks of 1 MiB written behind, brought back unverified and verified, and a scan of headers alone.
result<std::vector<report_row>> measure_file_tier(const pool_parts_options& options);

}  // namespace weft::bench
