// One fetch on its way.
#pragma once

#include <weft/fabric/fetch_watcher.hpp>
#include <weft/fabric/transport.hpp>
#include <weft/fabric/wire/push_sink.hpp>

#include "ucx/registration.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

namespace weft::fabric {

inline std::uint64_t number(operation_id id) {
  return static_cast<std::uint64_t>(id);
}

// A copy out of a mapping, a series of gets, or chunks that the owner sends.
enum class fetch_method : std::uint8_t { mapped, gets, pushed };

struct fetch_operation {
  operation_id id{};
  peer_id peer{};
  std::vector<fetch_range> ranges;  // those refused at the start have length 0
  std::vector<result<void>> results;
  fetch_callback done;
  std::shared_ptr<fetch_watcher> watcher;        // may be null
  std::shared_ptr<const ucx_registration> into;  // where it lands; null: the arena
  bool in_place = false;                         // a view: the bytes stay where they are
  bool probing = false;                          // measures a path: into memory of the transport's own
  time_point started;
  time_point deadline;

  fetch_method method = fetch_method::mapped;
  std::uint64_t bytes_done = 0;
  std::vector<arena_view> views;  // in place

  // mapped
  std::uint64_t total_bytes = 0;

  // mapped, gets: the next byte to ask for
  std::size_t range = 0;
  std::uint64_t offset = 0;

  // gets
  unsigned in_flight = 0;
  std::vector<std::uint32_t>
      range_pieces;  // by range: pieces that are out; a range is done at 0 behind the cursor

  // pushed
  bool requested = false;  // the owner has it
  push_sink sink;

  // Why it ends before its time, once it does, or cannot begin; gets still in flight are awaited.
  std::optional<error> ended_by;

  bool all_asked() const { return range == ranges.size(); }
  void count_bytes() {
    for (const auto& each : ranges)
      total_bytes += each.length_bytes;
  }
  void skip_empty_ranges() {
    while (!all_asked() && offset == ranges[range].length_bytes) {
      ++range;
      offset = 0;
    }
  }
};

// Operations that wait to be used again, with the memory of their lists. Any thread.
class operation_stock {
 public:
  std::unique_ptr<fetch_operation> take() {
    {
      const std::lock_guard lock{mutex_};
      if (!idle_.empty()) {
        auto taken = std::move(idle_.back());
        idle_.pop_back();
        return taken;
      }
    }
    return std::make_unique<fetch_operation>();
  }

  void give_back(std::unique_ptr<fetch_operation> used) {
    auto pieces = std::move(used->range_pieces);
    *used = {};
    pieces.clear();
    used->range_pieces = std::move(pieces);
    const std::lock_guard lock{mutex_};
    if (idle_.size() < idle_max) idle_.push_back(std::move(used));
  }

 private:
  static constexpr std::size_t idle_max = 256;
  std::mutex mutex_;
  std::vector<std::unique_ptr<fetch_operation>> idle_;
};

}  // namespace weft::fabric
