// The client of a weft cluster. One connection may be used by several threads at once; every call blocks its
// caller until it is answered or its deadline has passed.
//
//   auto cluster = weft::client::connect("127.0.0.1:4242");
//   auto document = cluster->ingest({.name = "notes", .text = text});
//   auto answer = cluster->ask({.question = "Who?", .documents = {document->id}});
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
#include <string>
#include <vector>

namespace weft::client {

using schema::ask_request;
using schema::ask_result;
using schema::block_info;
using schema::block_layout;
using schema::cluster_status;
using schema::document_info;
using schema::ingest_request;
using schema::token_piece;
using schema::transfer_info;

struct options {
  std::string token;                  // the cluster's client secret; empty where none is set
  std::string name = "weft::client";  // for people who read the cluster's logs
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds deadline{120'000};  // of a call that names none
};

struct call_options {
  std::chrono::milliseconds deadline{0};  // 0: the connection's
  std::stop_token stop;                   // requested from any thread: the call ends with `cancelled`
};

// Callbacks run on the thread of the caller, while the call waits. What they throw ends the call and reaches
// the caller. A slow one slows the cluster's sending down, it does not fill memory.
using progress_callback = std::function<void(std::uint64_t done_tokens, std::uint64_t total_tokens)>;
using token_callback = std::function<void(const token_piece&)>;

struct block {
  block_layout layout;
  std::vector<std::byte> bytes;
};

// What the cluster said about itself when the connection was made.
struct welcome {
  std::uint16_t protocol_major = 0;
  std::uint16_t protocol_minor = 0;
  std::string software;  // "weft 0.1.0"
};

// Errors of every call: those of the cluster as they are; `unreachable`: the connection is gone, connect
// again; `deadline_exceeded`: no answer in time, the work may still have been done; `cancelled`.
class connection {
 public:
  connection(connection&&) noexcept;
  connection& operator=(connection&&) noexcept;
  // No call may be running.
  ~connection();

  const client::welcome& welcome() const;

  result<document_info> ingest(const ingest_request& request, const progress_callback& on_progress = {},
                               const call_options& how = {});
  result<std::vector<document_info>> documents(const call_options& how = {});
  result<void> drop(id128 document, const call_options& how = {});
  result<void> pin(id128 document, const call_options& how = {});
  result<void> unpin(id128 document, const call_options& how = {});

  // Every token has been given to `on_token` when this returns.
  result<ask_result> ask(const ask_request& request, const token_callback& on_token = {},
                         const call_options& how = {});

  // One entry for each key, in the order of the keys.
  result<std::vector<block_info>> lookup(std::span<const id128> keys, const call_options& how = {});
  result<void> put(id128 key, const block_layout& layout, std::span<const std::byte> bytes,
                   const call_options& how = {});
  // The checksum that came with the bytes has been verified.
  result<block> get(id128 key, const call_options& how = {});

  result<cluster_status> status(const call_options& how = {});

  // Round-trip time to the gateway.
  result<std::chrono::nanoseconds> ping(const call_options& how = {});

 private:
  struct state;
  explicit connection(std::unique_ptr<state> s);
  friend result<connection> connect(const std::string& address, options how);
  std::unique_ptr<state> state_;
};

// `address`: "host:port", "[::1]:port" or "unix:/path". `unreachable`: nobody answers there in time;
// `invalid_argument`: no such address, or a wrong token; `unsupported`: another major version.
result<connection> connect(const std::string& address, options how = {});

}  // namespace weft::client
