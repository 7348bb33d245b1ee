// The blocks of one node, in its arena and on file: asked by any thread, that of the transport above all. The
// storage actor brings it the view and the time, and does what may take a while.
#pragma once

#include <weft/actors/block_watcher.hpp>
#include <weft/actors/cluster.hpp>
#include <weft/actors/control.hpp>
#include <weft/actors/local_messages.hpp>
#include <weft/actors/node_calls.hpp>
#include <weft/actors/node_fetches.hpp>
#include <weft/actors/strand.hpp>
#include <weft/base/error.hpp>
#include <weft/machines/shard_map.hpp>
#include <weft/machines/storage.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

namespace weft::tier {
struct opened_tier;
class tiered_storage;
}  // namespace weft::tier

namespace weft::actors {

struct store_parts {
  std::shared_ptr<node_calls> calls;
  std::shared_ptr<node_fetches> fetches;
  std::span<std::byte> arena;
  clock_source clock;
  std::shared_ptr<tier::opened_tier> file;  // null: memory only
};

// Callbacks come at once or later, on any thread, and must not block.
class block_store : public std::enable_shared_from_this<block_store> {
 public:
  template <class Answer>
  using answered = std::function<void(result<Answer>)>;

  block_store(const node_config& config, store_parts parts);
  ~block_store();
  block_store(const block_store&) = delete;
  block_store& operator=(const block_store&) = delete;

  // Where the file tier's device brings what it has ended: a thread that may be busy for a while. Before
  // anything else.
  void work_on(node_fetches::executor where);

  // Takes blocks out of a writer's arena. Answered when each is verified, committed and announced, or
  // refused.
  void take(offer what, answered<offer_reply> done);
  // Where blocks lie, held in place until released or expired.
  void lease(lease_request wanted, answered<lease_reply> done);
  void release(std::uint64_t lease);
  // They were read without a lease.
  void touch(std::vector<id128> keys);

  // How many were there.
  void drop(std::vector<id128> keys, answered<std::uint64_t> done);
  void pin(bool pinned, std::vector<id128> keys, answered<std::uint64_t> done);
  void pinned(std::vector<id128> keys, answered<key_list> done);
  // Bytes that are held of each, in memory or on file.
  void sizes(std::vector<id128> keys, answered<held_sizes> done);
  void list_held(std::uint64_t cursor, std::size_t limit, answered<held_page> done);
  // Drops the copies in memory and on file that do not prove themselves; of which keys none is left.
  void prove(std::vector<id128> keys, answered<key_list> done);
  void report(answered<storage_report> done);

  void adopt(const cluster_ptr& now);
  void tick();

 private:
  struct intake;
  using intake_ptr = std::shared_ptr<intake>;
  // A block that is announced and may not be there yet.
  struct coming_block {
    unsigned offers = 0;
    bool withdrawn = false;
  };

  void on_strand(std::function<void()> what);
  void make_tier();
  void carry_out(const std::vector<machines::trimmed_block>& trimmed);
  errc prove_and_stamp(std::span<std::byte> bytes, const id128& key, std::uint64_t generation);

  void withdraw(const std::vector<id128>& keys);
  bool holds(const id128& key) const;
  std::vector<machines::announced> held_of(std::vector<machines::announced> blocks) const;
  void withdraw_absent(const std::vector<id128>& keys);
  void withdraw_unheard();
  void announce(const std::vector<machines::announced>& items, std::function<void(bool heard)> done);
  void announce_all_to(std::size_t shard);
  void announce_where_missing();
  void tell_shard(const machines::node_ref& shard, announcement news, std::function<void(bool heard)> done);
  void restamp_all();

  static std::vector<id128> announced_in_vain(const intake& job);
  void reserve(const intake_ptr& job);
  void fetch(const intake_ptr& job, fetch_order order);
  void announce_early(const intake_ptr& job);
  bool end_of_coming(const std::vector<machines::announced>& blocks);
  void close_one(const intake_ptr& job);
  void admit_all(const intake_ptr& job, const fetch_outcome& fetched);
  errc admit(const offered_block& block, const machines::reservation& place, bool replace);
  lease_reply grant(const lease_request& wanted);
  std::vector<id128> drop_held(const std::vector<id128>& keys);
  void spoil(const std::vector<id128>& keys);
  std::vector<id128> drop_rotten(const std::vector<id128>& keys);
  bool set_pinned(const id128& key, bool pinned);
  bool is_pinned(const id128& key) const;
  held_page page_of(std::uint64_t cursor, std::size_t limit) const;
  storage_report report_now() const;

  store_parts parts_;
  duration lease_duration_;
  strand strand_;
  machines::storage slots_;
  watcher_stock watchers_;
  node_fetches::executor work_;
  std::unique_ptr<tier::tiered_storage> below_;  // with a file tier
  cluster_ptr now_;
  machines::shard_map shards_;
  std::map<machines::node_ref, std::uint64_t> announced_to_;  // epoch of the last full announcement, by shard
  std::map<id128, coming_block> coming_;
  std::set<id128> unheard_;          // withdrawals that no shard has confirmed
  std::uint64_t said_ = 0;           // announcements and withdrawals of this process
  std::uint64_t rotten_copies_ = 0;  // in memory
};

}  // namespace weft::actors
