// The receiving end of a pushed fetch: scatters chunks into the arena as they come, each once, until it is
// closed.
#pragma once

#include <weft/fabric/fetch_watcher.hpp>
#include <weft/fabric/wire/chunk_plan.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::fabric {

class push_sink {
 public:
  push_sink() = default;

  // Every range of `ranges` lies in the arena that `accept` is given; the caller has checked it.
  push_sink(std::vector<fetch_range> ranges, chunk_plan plan);

  // Writes the chunk and returns its bytes; 0 if it is not wanted (unknown, seen before, of another length).
  std::uint64_t accept(std::uint32_t chunk, std::span<const std::byte> payload, std::span<std::byte> arena);

  // Shows the watcher what has come behind all that it was shown; `results` are by range.
  void show(fetch_watcher& watcher, std::span<const std::byte> arena, std::vector<result<void>>& results);

  bool complete() const { return missing_ == 0; }
  bool range_complete(std::size_t range) const;

 private:
  std::vector<fetch_range> ranges_;
  chunk_plan plan_;
  std::vector<bool> arrived_;  // by chunk
  std::uint32_t missing_ = 0;
  std::uint32_t shown_ = 0;  // chunks
};

}  // namespace weft::fabric
