// One shard of the directory: which nodes hold which keys. Soft state, rebuilt from what the holders
// announce.
//
// An entry takes 32 bytes in an open-addressed table (under 64 bytes a key at any fill). A dead node's
// holdings are hidden at once and cleaned up in small steps by `sweep`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/item_kind.hpp>
#include <weft/machines/node_ref.hpp>
#include <weft/machines/shard_map.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace weft::machines {

struct announced {
  id128 key;  // not zero
  item_kind kind = item_kind::block;

  friend bool operator==(const announced&, const announced&) = default;
};

// The answer for a batch of keys, flat. `holders_of(i)` are indexes into `nodes`.
struct located {
  std::vector<node_ref> nodes;
  std::vector<std::uint16_t> holders;
  std::vector<std::uint32_t> ends;  // by key: end of its part of `holders`
  std::uint32_t prefix_keys = 0;    // leading keys of the request that have a holder
  bool complete = true;             // false: this shard is being rebuilt, a key without holder is a maybe

  std::span<const std::uint16_t> holders_of(std::size_t key_index) const {
    const std::size_t begin = key_index == 0 ? 0 : ends[key_index - 1];
    return {holders.data() + begin, ends[key_index] - begin};
  }
};

struct directory_stats {
  std::uint64_t entries = 0;
  std::uint64_t manifests = 0;
  std::uint64_t bytes = 0;  // of memory held for entries
  std::uint64_t nodes = 0;  // holders alive
};

class directory {
 public:
  directory();
  ~directory();
  directory(directory&&) noexcept;
  directory& operator=(directory&&) noexcept;

  // `stale` where that life of the node was dropped or a later one has announced: it has to join again. The
  // first announcement of a later life drops the earlier one. Zero keys are refused (`invalid_argument`).
  // `sequence`: what this life said later has a higher number.
  result<void> announce(const node_ref& holder, std::span<const announced> keys, std::uint64_t sequence = 0);

  // Keys that are not known, lives that are over, and what was said before the latest announcement are
  // ignored: an entry too many costs a reader one question, one too few loses the block. `stale` where it was
  // overtaken so: to be said again of what is still not held.
  result<void> withdraw(const node_ref& holder, std::span<const id128> keys, std::uint64_t sequence = 0);

  // Nothing of this life or an earlier one is located any more.
  void drop(const node_ref& dead);

  // This life is in a later view: it was dropped by the other side of a split.
  void readmit(const node_ref& member);

  // After a view change: forgets what other shards own now. Costs a pass over the table.
  void drop_foreign(const shard_map& shards, const node_ref& self);

  located locate(std::span<const id128> keys, time_point now) const;

  // Manifest keys with a live holder, ascending, behind `after`, at most `limit`.
  std::vector<id128> documents(const id128& after, std::size_t limit) const;

  // The view changed: until every expected holder said `announced_all`, or the time is over, misses are
  // maybes.
  void begin_rebuild(std::uint64_t epoch, std::span<const node_ref> expected, time_point until);
  void announced_all(const node_ref& holder, std::uint64_t epoch);
  bool rebuilding(time_point now) const;

  // Frees what dead nodes left behind, looking at about `entries` entries. True: there is more to do.
  bool sweep(std::size_t entries);

  directory_stats stats() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::machines
