// One node's door to the others' memory: batches of ranges come in from a peer's arena, small messages go
// both ways.
//
// Three implementations pass one contract test: in-process (deterministic, stepped by the test), a
// fault-injecting wrapper, and UCX. Calls may come from any thread. Callbacks run on the transport's progress
// thread, or on one that drives it (in-process: in `step()`), exactly once per call, and must not block; they
// may call the transport again.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/time.hpp>
#include <weft/fabric/arena_view.hpp>
#include <weft/fabric/registered_memory.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace weft::fabric {

// A connected peer as this transport knows it; never reused within one transport.
enum class peer_id : std::uint32_t {};
enum class operation_id : std::uint64_t {};

// How bytes of a fetch come in.
enum class path : std::uint8_t {
  get,   // this side reads one-sidedly (shared memory, RDMA)
  push,  // the owner is asked and sends active messages (tcp)
};

struct fetch_range {
  std::uint64_t remote_offset = 0;  // in the peer's arena
  std::uint64_t length_bytes = 0;
  std::uint64_t local_offset = 0;  // in this node's arena, or in the memory that it lands in
};

struct fetch_report {
  result<void> outcome;              // ok only if every range is ok
  std::vector<result<void>> ranges;  // by range of the request
  std::uint64_t bytes = 0;           // that arrived; of a view: that were shown
  std::vector<arena_view> views;     // of a view that found any: by range, empty where one is not ok
};

struct peer_status {
  peer_id peer{};
  std::string
      transport;  // what was really selected: "shm", "tcp", "rdma", "in_process"; "self" for this node
  path way = path::get;
  bool alive = true;
  std::uint64_t bytes_fetched = 0;
  std::uint64_t fetch_nanoseconds = 0;  // summed over completed fetches
  // By the path when the connection was made: a few small fetches that count nowhere else. 0: not measured.
  std::uint64_t probed_bytes = 0;
  std::uint64_t probe_nanoseconds = 0;
};

// Bulk bytes since start. Nothing else in weft moves KV between processes.
struct transport_counters {
  std::uint64_t bytes_in = 0;      // fetched by this node
  std::uint64_t bytes_viewed = 0;  // read in place by this node, out of a peer's arena: none of them moved
  std::uint64_t bytes_out = 0;     // pushed by this node (one-sided reads by peers are invisible here)
  std::uint64_t fetches = 0;
  std::uint64_t failed_fetches = 0;
  std::uint64_t messages_in = 0;
  std::uint64_t messages_out = 0;
};

using connect_callback = std::function<void(result<peer_id>)>;
using fetch_callback = std::function<void(fetch_report)>;
using send_callback = std::function<void(result<void>)>;
using message_handler = std::function<void(peer_id from, std::span<const std::byte> payload)>;
using peer_down_handler = std::function<void(peer_id, const error& why)>;

inline constexpr std::size_t max_message_bytes = std::size_t{1} << 20;

class arrival;        // arrival.hpp
class fetch_watcher;  // fetch_watcher.hpp

class transport {
 public:
  // Every callback that is still due comes (`cancelled`) before the destructor returns.
  virtual ~transport() = default;

  // What peers pass to `connect`: opaque bytes, at most 1 KiB, with the arena's description inside.
  virtual std::string address() const = 0;

  // This node's registered memory. Peers may fetch any of it: nothing secret belongs here.
  virtual std::span<std::byte> arena() = 0;

  // Calls back when the connection is flushed and usable, or failed within the timeout: `unreachable`,
  // `stale` (another node answers there), `deadline_exceeded`, `invalid_argument`, `unsupported`. A node that
  // is connected already keeps its id, also when it was the one to connect; this node's own address is a peer
  // like any other.
  virtual void connect(std::string address, duration timeout, connect_callback done) = 0;
  // Ends what is in flight there (`cancelled`) and forgets the peer; `on_peer_down` is not told.
  virtual void disconnect(peer_id peer) = 0;

  // Brings ranges of the peer's arena into this arena: at most 65,536 of them. After the callback no byte of
  // the destination is written any more, whatever the outcome. A watcher, if there is one, sees the bytes as
  // they come in.
  virtual operation_id fetch(peer_id peer, std::vector<fetch_range> ranges, duration timeout,
                             fetch_callback done, std::shared_ptr<fetch_watcher> watcher = nullptr) = 0;

  // The same ranges where they stand, without a copy: nothing is written, `local_offset` is not looked at,
  // and a watcher sees the bytes in the peer's arena. `unsupported` where this process cannot read the peer's
  // memory (tcp, RDMA): fetch them.
  virtual operation_id view(peer_id peer, std::vector<fetch_range> ranges, duration timeout,
                            fetch_callback done, std::shared_ptr<fetch_watcher> watcher = nullptr) = 0;

  // Lets `land` write to memory of the caller's, which stays until the handle is gone and every `land` into
  // it has called back. `unsupported` where this transport does not move that kind of memory.
  virtual result<std::shared_ptr<const registered_memory>> register_memory(std::span<std::byte> bytes,
                                                                           memory_kind kind) = 0;

  // As `fetch`, into memory that this transport registered: `local_offset` counts from its beginning. Work
  // that a device is given after the callback finds the bytes; work that it had before may not. `unsupported`
  // where that peer's bytes come otherwise than by gets: view them, or fetch them into the arena.
  virtual operation_id land(peer_id peer, std::vector<fetch_range> ranges,
                            std::shared_ptr<const registered_memory> into, duration timeout,
                            fetch_callback done) = 0;

  // Of fetches, views and landings. A hint; the callback still comes, with `cancelled` where it took effect.
  virtual void cancel(operation_id operation) = 0;

  // A message of at most `max_message_bytes` to the peer's handler of that channel; in order per peer.
  virtual void send(peer_id peer, std::uint16_t channel, std::vector<std::byte> payload,
                    send_callback done) = 0;

  // Calls `begin`, then returns once `until` has come, which a callback says. Meanwhile this thread does what
  // the progress thread does, if no other is at it: what it waits for then needs no other thread to wake.
  // What `begin` fetches may be there, and called back, before the call of `fetch` returns. Not from a
  // callback, and holding no lock that a callback takes, of this call or of any other.
  virtual void drive(const std::function<void()>& begin, arrival& until);

  // Handlers are set before the first connection and stay. What comes on a channel without one is dropped.
  virtual void on_message(std::uint16_t channel, message_handler handler) = 0;
  virtual void on_peer_down(peer_down_handler handler) = 0;

  virtual std::vector<peer_status> peers() const = 0;
  virtual transport_counters counters() const = 0;
};

}  // namespace weft::fabric
