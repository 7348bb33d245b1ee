// What stands behind the gateway. The RPC server turns every request of a client into one call of this
// interface and its completion into the reply; it knows nothing of actors, and whoever implements this knows
// nothing of RPC.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

namespace weft::launcher::gateway {

// The end of a call: from any thread, at once or later. The first call counts, later ones are ignored. One
// that is destroyed without having been called ends the request with `errc::internal`.
template <class T>
using completion = std::function<void(result<T>)>;

// What every call is given besides its request.
struct call_context {
  // Requested when the client goes away or the deadline passes: work for nobody, to be given up. Its
  // completion must still be called, with any result.
  std::stop_token cancelled;
  // The client is answered by then in any case.
  std::chrono::steady_clock::time_point deadline;
};

// -- documents ---------------------------------------------------------------------------------------------

struct document_info {
  id128 id;
  std::string name;
  std::uint64_t tokens = 0;
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;           // of all blocks, one copy
  std::vector<std::string> holders;  // names of the nodes that hold blocks of it
  std::string importance;            // policy that scored the rows; "none"
  std::vector<double> band_ratios;   // part of the rows kept by bands 0..i, ascending; {1} when not scored
  double ms = 0;                     // that the ingest took; 0 where not known
  bool pinned = false;
};

struct ingest_request {
  std::string name;        // what a person calls it: file name or the "id" of a JSON line; may be empty
  std::string text;        // any bytes, 1 .. limits::text_bytes of them
  std::string importance;  // policy; empty: the cluster's default
  std::optional<double> ratio;
  // Tokens encoded so far, of how many; from any thread, any number of times, not after the completion.
  std::function<void(std::uint64_t done, std::uint64_t total)> on_progress;
};

// -- questions ---------------------------------------------------------------------------------------------

struct token_piece {
  std::int32_t id = 0;
  std::string text;  // bytes this token adds to the answer; may end within a character
};

struct ask_request {
  std::string question;  // not empty
  std::vector<id128> documents;
  std::string system;     // empty: the model's default
  std::string stitch;     // policy; empty: the cluster's default
  std::string retrieval;  // policy; empty: all documents, dense
  std::optional<double> ratio;
  std::uint32_t max_tokens = 64;
  double temperature = 0;  // 0: greedy
  double top_p = 1;
  std::uint64_t seed = 0;
  // Each token as it is made, in order, from one thread at a time, not after the completion. Never blocks.
  std::function<void(token_piece)> on_token;
};

struct transfer_info {
  std::string holder;     // name of the node
  std::string transport;  // "shm", "tcp", "rdma", "view", "local", ...
  std::string path;       // what the fabric says it selected, e.g. "posix/memory"
  std::uint64_t bytes = 0;
};

struct ask_result {
  std::string answer;
  std::vector<std::int32_t> tokens;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t recomputed_rows = 0;
  double ttft_ms = 0;
  double load_ms = 0;
  double rotate_ms = 0;
  double compute_ms = 0;
  double decode_tokens_per_s = 0;
  std::vector<transfer_info> transfers;
  std::uint64_t misses = 0;
};

// -- blocks of engines that bring their own KV
// ----------------------------------------------------------------

struct block_info {
  id128 key;
  bool present = false;
  std::uint64_t bytes = 0;
  std::vector<std::string> holders;
};

struct block_layout {
  std::string descriptor;  // the engine's own words for how the bytes are laid out; compared as bytes
  id128 fingerprint;       // of the model
  std::uint32_t tokens = 0;
};

struct block_put {
  id128 key;
  block_layout layout;
  std::vector<std::byte> bytes;  // 1 .. limits::block_bytes; their checksum has been verified
};

// `owner` keeps `bytes` valid (a lease, a buffer); it may be released on any thread.
struct block_payload {
  block_layout layout;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;
};

// -- status ------------------------------------------------------------------------------------------------

struct pool_use {
  std::uint64_t used_bytes = 0;
  std::uint64_t capacity_bytes = 0;
};

struct peer_info {
  std::string name;
  std::string transport;
  std::string path;
  double gb_per_s = 0;
};

struct counter {
  std::string name;
  std::int64_t value = 0;
};

struct node_status {
  std::string name;
  std::int64_t pid = 0;
  bool alive = false;
  std::uint64_t incarnation = 0;
  std::vector<std::string> roles;
  pool_use dram;
  pool_use file;
  std::vector<peer_info> peers;
  std::vector<counter> counters;
};

struct cluster_status {
  std::uint64_t epoch = 0;
  std::vector<node_status> nodes;
};

// What the server refuses before a backend sees it.
struct limits {
  static constexpr std::size_t text_bytes = 16u << 20;   // of a document
  static constexpr std::size_t prompt_bytes = 1u << 20;  // of a question, of a system text
  static constexpr std::size_t name_bytes = 1024;
  static constexpr std::size_t documents = 4096;  // of one question
  static constexpr std::size_t keys = 65536;      // of one lookup
  static constexpr std::size_t block_bytes = 256u << 20;
  static constexpr std::uint32_t max_tokens = 1u << 20;
};

// Every method is called on the server's thread, must return soon, and answers through `done`. Requests come
// checked against `limits`. Error contexts go to the client as they are: one line, no secrets, no paths.
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
