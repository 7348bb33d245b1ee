// Made-up traces of requests for blocks.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace weft::bench {

using block_number = std::uint32_t;

struct pool_trace {
  std::vector<block_number> requests;
  std::vector<std::uint64_t> costs;  // of computing a block anew, by number; any unit
};

// Single blocks, the i-th most popular asked for in proportion to 1 / i^0.9: what a pool of documents sees.
pool_trace zipf_trace(std::uint64_t requests, std::uint64_t seed);

// Agents at work: conversations that begin with one of some shared beginnings (Zipf) and grow turn by turn,
// several at a time; each turn asks for all blocks so far. A block costs more the later it stands, as
// attention looks back on all before it.
pool_trace agents_trace(std::uint64_t requests, std::uint64_t seed);

struct hit_counts {
  std::uint64_t hits = 0;
  std::uint64_t saved_cost = 0;
};

// The most hits that a pool of so many blocks can have: what is asked for again last goes first, or is not
// kept at all (Belady 1966).
hit_counts best_possible(const pool_trace& trace, std::uint64_t capacity_blocks);

}  // namespace weft::bench
