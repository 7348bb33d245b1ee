// What actors say to each other, also between processes: plain integers, strings and vectors of them. No
// floating point (CAF 0.17 mangles it: fixed point or bit patterns), nothing near 1 MiB, bulk bytes never:
// those stay in an arena and are named by node, offset and length.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace weft::actors {

// No message between nodes is larger; longer lists are cut into several.
inline constexpr std::size_t max_mailbox_message_bytes = std::size_t{1} << 20;
inline constexpr std::size_t max_keys_per_message = 32768;

// -- storage
// -------------------------------------------------------------------------------------------------------

// A finished block in the writer's arena.
struct offered_block {
  id128 key;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint8_t kind = 0;  // machines::entry_kind
};

// "Take these": the storage node fetches them, verifies, commits, announces, and only then answers.
struct offer {
  id128 writer;  // node whose arena holds the bytes
  std::uint64_t incarnation = 0;
  id128 fingerprint;
  std::vector<offered_block> blocks;
};

struct key_outcome {
  id128 key;
  std::uint8_t code = 0;  // errc
  std::string context;
};

struct offer_reply {
  std::uint64_t incarnation = 0;      // of the storage node
  std::vector<key_outcome> outcomes;  // by block of the offer
};

struct lease_request {
  id128 reader;
  std::vector<id128> keys;
};

struct lease_grant {
  id128 key;
  std::uint8_t code = 0;  // errc; the rest counts only for ok
  std::uint64_t lease = 0;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t generation = 0;
};

struct lease_reply {
  std::uint64_t incarnation = 0;
  std::vector<lease_grant> grants;  // by key of the request
};

struct key_list {
  std::vector<id128> keys;
};

struct lease_list {
  std::vector<std::uint64_t> leases;
};

// -- directory
// -----------------------------------------------------------------------------------------------------

struct announced_key {
  id128 key;
  std::uint8_t kind = 0;  // machines::entry_kind
};

struct announcement {
  id128 holder;
  std::uint64_t incarnation = 0;
  std::vector<announced_key> entries;
};

struct withdrawal {
  id128 holder;
  std::uint64_t incarnation = 0;
  std::vector<id128> keys;
};

struct key_holders {
  id128 key;
  std::vector<id128> holders;
};

struct locate_reply {
  bool rebuilding = false;  // a key without holders may still turn up
  std::vector<key_holders> keys;
};

// -- documents and questions
// ---------------------------------------------------------------------------------------

struct encode_request {
  std::string name;
  std::vector<std::int32_t> tokens;  // of the whole document, the model's document marker included
};

struct document_summary {
  id128 id;
  std::string name;
  std::uint64_t tokens = 0;
  std::uint64_t blocks = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> holders;
  std::uint64_t microseconds = 0;
  bool pinned = false;
};

struct question {
  std::string text;
  std::string system;
  std::vector<id128> documents;
  std::string stitch;  // policy; empty: none
  std::uint32_t max_tokens = 64;
  std::uint32_t temperature_millionths = 0;
  std::uint32_t top_p_millionths = 1000000;
  std::uint64_t seed = 0;
};

struct transfer_summary {
  std::string holder;
  std::string transport;
  std::string path;
  std::uint64_t bytes = 0;
};

struct answer {
  std::string text;
  std::vector<std::int32_t> tokens;
  std::uint64_t prompt_tokens = 0;
  std::uint64_t recomputed_rows = 0;
  std::uint64_t ttft_microseconds = 0;
  std::uint64_t load_microseconds = 0;
  std::uint64_t rotate_microseconds = 0;
  std::uint64_t compute_microseconds = 0;
  std::uint64_t decode_microseconds = 0;  // of all tokens but the first
  std::vector<transfer_summary> transfers;
  std::uint64_t misses = 0;  // blocks that no holder delivered and that were computed here
};

struct answer_piece {
  std::int32_t token = 0;
  std::string text;
};

// -- status
// --------------------------------------------------------------------------------------------------------

struct peer_report {
  std::string name;
  std::string transport;
  std::string path;
  std::uint64_t bytes = 0;
  std::uint64_t nanoseconds = 0;
};

struct counter {
  std::string name;
  std::int64_t value = 0;
};

struct node_report {
  std::string name;
  std::int64_t pid = 0;
  bool alive = false;
  std::uint64_t incarnation = 0;
  std::vector<std::string> roles;
  std::uint64_t dram_used_bytes = 0;
  std::uint64_t dram_capacity_bytes = 0;
  std::vector<peer_report> peers;
  std::vector<counter> counters;
};

struct cluster_report {
  std::uint64_t epoch = 0;
  std::vector<node_report> nodes;
};

}  // namespace weft::actors
