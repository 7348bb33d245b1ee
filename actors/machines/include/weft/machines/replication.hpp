// A storage node's part in keeping every block at its number of copies.
//
// After every change of the storage nodes, and once in a while, the node goes through what it holds in pages
// and asks the directory who else does. Of a block with too few holders the first one in the writers' order
// is responsible: it offers the block to the nodes that come next in that order and do not hold it. Copies
// are paced and take free room only: nothing is evicted for them.
//
// The owner carries out the actions and reports each exactly once.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/item_kind.hpp>
#include <weft/machines/node_ref.hpp>
#include <weft/machines/pace.hpp>
#include <weft/machines/read_batch.hpp>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

namespace weft::machines {

class placement_order;

struct replication_options {
  std::uint32_t block_copies = 1;                             // where the tenant says nothing
  std::map<std::uint32_t, std::uint32_t> tenant_copies = {};  // of blocks, by tenant
  std::uint32_t manifest_copies = 2;
  std::uint64_t bytes_per_second = std::uint64_t{256} << 20;
  std::uint64_t offer_bytes = std::uint64_t{8} << 20;  // of one offer, but at least one block
  std::size_t offers_at_once = 2;
  duration settle = std::chrono::milliseconds(500);  // after a change, so that holders have announced
  duration retry = std::chrono::seconds(2);          // after a pass that could not tell or place everything
  duration patrol = std::chrono::seconds(60);        // after a pass that left nothing to do
  std::uint32_t mend_rounds = 4;                     // `retry` apart
};

struct held_item {
  id128 key;
  item_kind kind = item_kind::block;
  std::uint64_t bytes = 0;
  std::uint32_t tenant = 0;
};

struct list_held {  // the next page of what this node holds
  bool from_start = false;
};
struct find_holders {
  std::uint64_t call = 0;
  std::vector<id128> keys;
};
struct offer_copies {  // to be taken without evicting anything; all of one tenant
  std::uint64_t call = 0;
  node_ref target;
  std::vector<held_item> items;
};
using replication_action = std::variant<list_held, find_holders, offer_copies>;

struct replication_stats {
  std::uint64_t copies_made = 0;
  std::uint64_t copies_failed = 0;  // no node could take them
  std::uint64_t bytes_copied = 0;
};

class replication {
 public:
  explicit replication(const replication_options& options);
  ~replication();
  replication(replication&&) noexcept;
  replication& operator=(replication&&) noexcept;

  // `shares` by node as writers use them; empty: equal ones.
  void on_view(const node_ref& self, std::vector<node_ref> storage_nodes, std::vector<std::uint64_t> shares,
               time_point now);

  // These may lack copies: ahead of the pass, and in several rounds, since the directory may not know yet.
  void mend(const std::vector<held_item>& items);

  std::vector<replication_action> tick(time_point now);
  // An empty page ends the pass.
  std::vector<replication_action> on_held(std::vector<held_item> page, time_point now);
  std::vector<replication_action> on_holders(std::uint64_t call, std::vector<key_holders> answers,
                                             time_point now);
  // `not_found` where this node holds it no longer.
  std::vector<replication_action> on_offered(std::uint64_t call, std::vector<errc> outcomes, time_point now);

  bool resting() const;  // no pass is under way and none is due but the patrol
  const replication_stats& stats() const { return stats_; }

 private:
  struct copy {
    held_item item;
    std::vector<node_ref> targets;  // best last
    std::uint32_t missing = 0;
  };

  struct mending {
    held_item item;
    std::uint32_t rounds = 0;  // asked about
    time_point due{};
  };

  std::uint32_t wanted_copies(const held_item& item) const;
  bool is_being_copied(const id128& key) const;
  std::vector<held_item> take_due_mending(time_point now);
  void plan(const held_item& item, const key_holders& answer);
  void advance(std::vector<replication_action>& actions, time_point now);
  void ask_about(std::vector<replication_action>& actions, std::vector<held_item> items);
  void offer_next(std::vector<replication_action>& actions);
  void end_pass(time_point now);

  replication_options options_;
  node_ref self_;
  std::vector<node_ref> storage_nodes_;
  std::vector<std::uint64_t> shares_;
  std::unique_ptr<placement_order> order_;
  pace pace_;
  std::optional<time_point> next_pass_;
  bool in_pass_ = false;
  bool listing_ = false;
  bool page_due_ = false;
  bool incomplete_ = false;  // this pass could not tell or place everything
  bool patrolling_ = false;  // the next pass is only the patrol
  std::vector<mending> to_mend_;
  std::deque<copy> queue_;
  std::uint64_t last_call_ = 0;
  std::map<std::uint64_t, std::vector<held_item>> asked_;
  std::map<std::uint64_t, std::vector<copy>> offered_;
  replication_stats stats_;
};

}  // namespace weft::machines
