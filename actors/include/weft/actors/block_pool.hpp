// This node's door to the blocks of the whole cluster: reads and writes batches of blocks, wherever they are.
//
// Any thread may ask. Callbacks come once, at once or later, on any thread, that of the transport above all,
// and must not block. They may ask again. The same without a callback waits for the answer, and does the
// transport's work meanwhile: the fastest way for a thread that has nothing else to do. It must not be asked
// so by a callback, nor with a lock that one takes.
#pragma once

#include <weft/actors/cluster.hpp>
#include <weft/actors/control.hpp>
#include <weft/actors/local_messages.hpp>
#include <weft/actors/node_calls.hpp>
#include <weft/actors/node_fetches.hpp>
#include <weft/actors/staging.hpp>
#include <weft/base/error.hpp>
#include <weft/base/time.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace weft::actors {

struct pool_parts {
  std::shared_ptr<node_calls> calls;
  std::shared_ptr<node_fetches> fetches;
  fabric::transport* transport = nullptr;  // below both; outlives the pool
  std::shared_ptr<staging> room;           // where blocks come in and stand before they are written
  std::shared_ptr<const device_landing> landing = nullptr;  // beside it; null: blocks come to no device
  clock_source clock;
  duration lease_duration{};  // that every holder grants
  std::uint64_t seed = 0;     // spreads reads over replicas
  std::uint32_t tenant = 0;   // whose quota written blocks count against
  std::uint32_t replicas =
      1;  // where writers put so many copies, one is looked for first; 0: not without asking
};

struct pool_core;

class block_pool {
 public:
  template <class Answer>
  using answered = std::function<void(result<Answer>)>;

  explicit block_pool(pool_parts parts);
  // What is under way is answered with `cancelled`.
  ~block_pool();
  block_pool(const block_pool&) = delete;
  block_pool& operator=(const block_pool&) = delete;

  // Blocks into staging, or beside it on a device where they may, verified. A key without a block that proves
  // itself by the deadline is a miss.
  void read(read_order order, answered<read_outcome> done);
  result<read_outcome> read(read_order order);
  // Does not wait; but blocks at remembered places in mapped memory are copied, and called back, before it
  // returns: a few microseconds of this thread's instead of two threads to wake.
  void read_promptly(read_order order, answered<read_outcome> done);
  // Staged blocks to `replicas` holders each; answered when they are committed.
  void write(write_order order, answered<write_outcome> done);
  result<write_outcome> write(write_order order);
  // Who holds what. A shard that does not answer in time says "maybe" for its keys.
  void locate(const std::vector<id128>& keys, duration timeout, answered<locate_reply> done);
  result<locate_reply> locate(const std::vector<id128>& keys, duration timeout);
  // Where these were is not true any more.
  void forget(std::vector<id128> keys);
  void report(answered<pool_report> done);

  void adopt(const cluster_ptr& now);
  // Time for deadlines. `again` is called, at once or later, where another tick is needed soon; so it is when
  // something begins. Set before anything else.
  void tick();
  void call_for_ticks(std::function<void()> again);

 private:
  std::shared_ptr<pool_core> core_;
};

}  // namespace weft::actors
