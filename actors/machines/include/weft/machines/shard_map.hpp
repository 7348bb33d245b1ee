// Which node's directory shard knows about a key: rendezvous hashing over the live nodes, so that a node that
// comes or goes moves only its own share of the keys.
#pragma once

#include <weft/machines/view.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::machines {

class shard_map {
 public:
  shard_map() = default;
  explicit shard_map(const view& v);  // every member carries a shard

  bool empty() const { return nodes_.empty(); }
  std::uint64_t epoch() const { return epoch_; }
  std::span<const node_ref> nodes() const { return nodes_; }

  // Index into `nodes()`. Not to be called on an empty map.
  std::size_t shard_of(const id128& key) const;
  const node_ref& owner_of(const id128& key) const { return nodes_[shard_of(key)]; }

  // Indexes into `keys`, by shard: element i belongs to `nodes()[i]`.
  std::vector<std::vector<std::uint32_t>> split(std::span<const id128> keys) const;

 private:
  std::uint64_t epoch_ = 0;
  std::vector<node_ref> nodes_;
};

}  // namespace weft::machines
