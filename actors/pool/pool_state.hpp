// What the pool's reading, writing and asking around share. All of it is used on its strand only, but for
// what stands under a lock of its own.
#pragma once

#include <weft/actors/block_pool.hpp>
#include <weft/actors/block_watcher.hpp>
#include <weft/actors/strand.hpp>
#include <weft/machines/block_ways.hpp>
#include <weft/machines/location_memory.hpp>
#include <weft/machines/read_batch.hpp>
#include <weft/machines/shard_map.hpp>
#include <weft/machines/write_batch.hpp>

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace weft::actors {

struct read_job {
  machines::read_batch machine;
  id128 fingerprint;
  std::vector<std::uint64_t> front_bytes;
  bool in_place = false;
  bool on_device = false;
  std::map<std::pair<machines::node_ref, std::uint64_t>, std::shared_ptr<const view_lease>>
      leases;                              // in place
  std::vector<std::uint64_t> whole_bytes;  // by key, once it was leased
  read_results results;
  block_pool::answered<read_outcome> done;
  bool delivered = false;
};

struct write_job {
  machines::write_batch machine;
  write_order order;
  write_results results;
  block_pool::answered<write_outcome> done;
  bool delivered = false;
};

// The view, and whose directory shard a key belongs to in it.
struct known_cluster {
  cluster_ptr now;
  machines::shard_map shards;
};

// What readers remember, under a lock: reading again needs no more of the pool.
class read_memory {
 public:
  // Where what is wanted of all these keys is, at lives that are in the view. Nothing where one is not known.
  std::optional<std::vector<machines::block_place>> recall_all(const machines::view& view,
                                                               const read_order& order);
  // By key, the same for those that are known.
  std::vector<std::optional<machines::block_place>> recall(const machines::view& view,
                                                           const read_order& order);
  // A place of the whole block.
  void learn(const id128& key, const machines::block_place& place);
  void forget(const id128& key);
  // It was not there any more.
  void moved(const id128& key);
  // Read without asking its holder.
  void used(const machines::node_ref& holder, const id128& key);
  // So many of an order that needed nothing else.
  void delivered(std::size_t blocks);
  // By holder; each is told once.
  std::map<machines::node_ref, std::vector<id128>> take_used();

  void add_to(pool_report& report) const;

 private:
  std::optional<machines::block_place> recall(const machines::view& view, const read_order& order,
                                              std::size_t key);

  mutable std::mutex mutex_;
  machines::location_memory places_;
  std::map<machines::node_ref, std::vector<id128>> used_;
  std::uint64_t delivered_ = 0;
  std::uint64_t remembered_ = 0;
  std::uint64_t moved_ = 0;
};

struct pool_core : std::enable_shared_from_this<pool_core> {
  explicit pool_core(pool_parts p) : parts(std::move(p)) {}

  pool_parts parts;
  strand queue;
  std::map<std::uint64_t, read_job> reads;
  std::map<std::uint64_t, write_job> writes;
  std::uint64_t next_job = 1;
  bool closed = false;
  read_memory memory;                                        // any thread
  watcher_stock watchers;                                    // any thread
  std::function<void()> again;                               // set once, before the first order
  std::atomic<bool> ticking{false};                          // any thread
  std::map<machines::node_ref, std::uint64_t> coming_bytes;  // by holder: of fetches on their way
  machines::block_ways ways;
  std::map<machines::node_ref, time_point> unanswered;  // holders that last let a reader wait
  pool_report counters;

  // Any thread.
  void on_strand(std::function<void(pool_core&)> what);
  std::shared_ptr<const known_cluster> cluster() const;
  void set_cluster(std::shared_ptr<const known_cluster> fresh);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const known_cluster> cluster_;  // null until joined
};

// A callback that goes on on the pool's strand, if there still is one.
template <class Answer, class What>
auto back_on_strand(pool_core& core, What what) {
  return [weak = core.weak_from_this(), what = std::move(what)](Answer answer) {
    const auto alive = weak.lock();
    if (!alive) return;
    alive->on_strand(
        [what, answer = std::move(answer)](pool_core& c) mutable { what(c, std::move(answer)); });
  };
}

// Asks every shard for its share of `keys`; `done` gets one answer per key, at once or later, on any thread.
// A shard that does not answer in time says "maybe" for its keys.
void locate(pool_core& core, const std::vector<id128>& keys, duration timeout,
            std::function<void(std::vector<located_key>)> done);

// All blocks where they were before, on the calling thread and the transport's. False: that is not known of
// all of them. What turns out to be elsewhere is read as if nothing were known.
bool read_again(pool_core& core, const read_order& order, const block_pool::answered<read_outcome>& done);

void start_read(pool_core& core, const read_order& order, block_pool::answered<read_outcome> done);
void tick_read(pool_core& core, std::uint64_t job);
void on_node_down_read(pool_core& core, std::uint64_t job, const machines::node_ref& node);

void start_write(pool_core& core, write_order order, block_pool::answered<write_outcome> done);
void tick_write(pool_core& core, std::uint64_t job);
void on_node_down_write(pool_core& core, std::uint64_t job, const machines::node_ref& node);

// Jobs that wait need the clock to move. Any thread.
void keep_ticking(pool_core& core);

}  // namespace weft::actors
