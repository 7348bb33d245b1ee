// What stands behind the gateway. The RPC server turns every request of a client into one call of this
// interface and its completion into the reply; it knows nothing of actors, and whoever implements this knows
// nothing of RPC.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/schema/rpc_types.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <stop_token>
#include <vector>

namespace weft::launcher::gateway {

using schema::ask_result;
using schema::block_info;
using schema::block_layout;
using schema::cluster_status;
using schema::counter;
using schema::document_info;
using schema::limits;
using schema::node_status;
using schema::peer_info;
using schema::pool_use;
using schema::token_piece;
using schema::transfer_info;

// The end of a call: from any thread, at once or later. The first call counts, later ones are ignored. One
// whose last copy goes without having been called ends the request with `errc::internal`.
template <class T>
using completion = std::function<void(result<T>)>;

// What every call is given besides its request.
struct call_context {
  // Requested, on the server's thread, when the client goes away or the deadline passes: work for nobody, to
  // be given up. The completion may still be called, with any result.
  std::stop_token cancelled;
  // The client is answered by then in any case.
  std::chrono::steady_clock::time_point deadline;
};

struct ingest_request : schema::ingest_request {
  // Tokens encoded so far, of how many; from any thread, any number of times. Never empty, never blocks.
  std::function<void(std::uint64_t done, std::uint64_t total)> on_progress;
};

struct ask_request : schema::ask_request {
  // Each token as it is made, in order, from one thread at a time, before the completion. Never empty, never
  // blocks.
  std::function<void(token_piece)> on_token;
};

struct block_put {
  id128 key;
  block_layout layout;
  std::vector<std::byte> bytes;  // 1 .. limits::block_bytes; their checksum has been verified
};

// `owner` keeps `bytes` valid (a lease, a buffer); it is released on the server's thread or, when the client
// is gone, on the thread of the completion.
struct block_payload {
  block_layout layout;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// Every method is called on the server's thread, must return soon, must not throw, and answers through
// `done`. Requests come checked against `limits`. Error contexts go to the client as they are: one line with
// the remedy, no secrets, no paths of this machine.
class backend {
 public:
  virtual ~backend() = default;

  virtual void ingest(ingest_request request, call_context context, completion<document_info> done) = 0;
  virtual void documents(call_context context, completion<std::vector<document_info>> done) = 0;
  virtual void drop(id128 document, call_context context, completion<void> done) = 0;
  // A pinned document is not evicted. Pinning twice is as once.
  virtual void pin(id128 document, call_context context, completion<void> done) = 0;
  virtual void unpin(id128 document, call_context context, completion<void> done) = 0;

  virtual void ask(ask_request request, call_context context, completion<ask_result> done) = 0;

  // One entry for each key, in the order of the keys.
  virtual void lookup(std::vector<id128> keys, call_context context,
                      completion<std::vector<block_info>> done) = 0;
  // Done only after commit. A block that is there already is left as it is.
  virtual void put(block_put block, call_context context, completion<void> done) = 0;
  virtual void get(id128 key, call_context context, completion<block_payload> done) = 0;

  virtual void status(call_context context, completion<cluster_status> done) = 0;
};

}  // namespace weft::launcher::gateway
