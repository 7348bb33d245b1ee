// The messages of the RPC service as plain structs: what the client library returns and what the gateway asks
// its backend for. weft.capnp has the same on the wire.
#pragma once

#include <weft/base/id128.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

namespace weft::schema {

// What a server refuses at once. Both sides check before bytes travel.
struct limits {
  static constexpr std::size_t text_bytes = 16u << 20;  // of a document
  static constexpr std::size_t prompt_bytes = 1u
                                              << 20;  // of a question, a system text, texts among documents
  static constexpr std::size_t name_bytes = 1024;     // of a document, a policy
  static constexpr std::size_t token_bytes = 1024;    // of the client secret
  static constexpr std::size_t documents = 4096;      // of one question, or documents and texts
  static constexpr std::size_t keys = 65536;          // of one lookup
  static constexpr std::size_t bands = 16;            // of a document
  static constexpr std::size_t block_bytes = 256u << 20;
  static constexpr std::size_t layout_bytes = 64u << 10;
  static constexpr std::uint32_t max_tokens = 1u << 20;
  static constexpr double threshold = 1000;  // of scores in logarithms, either way
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
  std::vector<double> band_ratios;   // part of the rows that bands 0..i keep, ascending; {1} when not scored
  double ms = 0;                     // that the ingest took; 0 where not known
  bool pinned = false;
  double served_ratio = -1;  // of `band_ratios` the last whose bytes are all held; 0: none is
  std::vector<std::uint64_t> band_bytes = {};  // of bands 0..i of all blocks, one copy; empty where not known

  friend bool operator==(const document_info&, const document_info&) = default;
};

struct ingest_request {
  std::string name;        // what a person calls it: a file's name, the "id" of a JSON line; may be empty
  std::string text;        // any bytes, 1 .. limits::text_bytes of them
  std::string importance;  // policy; empty: the cluster's default
  std::optional<double> ratio;           // rows beyond it are left out
  std::vector<double> bands = {};        // where bands end, ascending; empty: the default
  std::vector<std::string> codecs = {};  // raw, int8, int4: one for all bands, or one for each; empty: raw
};

// -- questions ---------------------------------------------------------------------------------------------

struct token_piece {
  std::int32_t id = 0;
  std::string text;  // bytes this token adds to the answer; may end within a character

  friend bool operator==(const token_piece&, const token_piece&) = default;
};

// Of a prompt between system text and question: a document of the pool, or a text that is computed where it
// stands.
using prompt_part = std::variant<id128, std::string>;

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
  std::optional<double> sparse_ratio;   // of the blocks that `retrieval` chooses among
  std::uint32_t retrieve = 0;           // choose so many documents of the pool; 0: `documents` names them
  std::uint32_t stride = 0;             // steps of a period of `retrieval`; 0: its default
  std::string scale;                    // what its products are divided by; empty: its default
  std::string judge;                    // surrogate that judges rows of question and answer; empty: none go
  std::optional<double> threshold;      // of `judge`, in ln(kvzip_plus): rows that it gives less go
  std::vector<prompt_part> parts = {};  // documents and texts in their order; empty: `documents` are all

  friend bool operator==(const ask_request&, const ask_request&) = default;
};

struct transfer_info {
  std::string holder;     // name of the node
  std::string transport;  // "shm", "tcp", "rdma", "view", "local", ...
  std::string path;       // what the fabric says it selected, e.g. "posix/memory"
  std::uint64_t bytes = 0;

  friend bool operator==(const transfer_info&, const transfer_info&) = default;
};

// A document that was chosen for a question. Scores are comparable within one answer only.
struct retrieved_document {
  id128 id;
  std::string name;
  double score = 0;

  friend bool operator==(const retrieved_document&, const retrieved_document&) = default;
};

// What sparse decoding did. Blocks are those of one layer.
struct sparse_info {
  std::uint64_t middle_blocks = 0;  // that may be chosen
  std::uint64_t chosen_blocks = 0;  // of them, in each layer
  std::uint64_t retrieval_nodes = 0;
  std::uint64_t rankings = 0;
  std::uint64_t blocks_moved = 0;  // for decoding
  std::uint64_t late_fetches = 0;
  std::uint64_t stale_rankings = 0;
  std::uint64_t blocks_lost = 0;
  std::uint64_t cache_bytes = 0;

  friend bool operator==(const sparse_info&, const sparse_info&) = default;
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
  std::uint64_t cache_bytes = 0;              // what the allocator was asked for the session's rows
  std::uint64_t full_bytes = 0;               // of the blocks that were read, had all their bands been
  std::optional<sparse_info> sparse;          // none: decoded densely
  std::vector<retrieved_document> retrieved;  // best first; empty: the documents were named
  std::uint64_t ranked_documents = 0;         // that they were chosen among
  std::uint64_t unranked_documents = 0;       // of the pool, that could not be ranked
  double retrieve_ms = 0;                     // to choose; a part of ttft_ms
  std::uint64_t judged_rows = 0;              // of question and answer, in all layers and heads
  std::uint64_t dropped_rows = 0;             // of them
  std::uint64_t computed_rows = 0;            // of the prompt, in place: not of documents that were encoded
  std::uint64_t reused_rows = 0;              // of the prompt, that an earlier question had computed

  friend bool operator==(const ask_result&, const ask_result&) = default;
};

// -- blocks of engines that bring their own KV -------------------------------------------------------------

struct block_info {
  id128 key;
  bool present = false;
  std::uint64_t bytes = 0;
  std::vector<std::string> holders;

  friend bool operator==(const block_info&, const block_info&) = default;
};

struct block_layout {
  std::string descriptor;  // the engine's own words for how the bytes are laid out; compared as bytes
  id128 fingerprint;       // of the model
  std::uint32_t tokens = 0;

  friend bool operator==(const block_layout&, const block_layout&) = default;
};

// -- status ------------------------------------------------------------------------------------------------

struct pool_use {
  std::uint64_t used_bytes = 0;
  std::uint64_t capacity_bytes = 0;

  friend bool operator==(const pool_use&, const pool_use&) = default;
};

struct peer_info {
  std::string name;
  std::string transport;
  std::string path;
  double gb_per_s = 0;

  friend bool operator==(const peer_info&, const peer_info&) = default;
};

struct counter {
  std::string name;
  std::int64_t value = 0;

  friend bool operator==(const counter&, const counter&) = default;
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

  friend bool operator==(const node_status&, const node_status&) = default;
};

struct cluster_status {
  std::uint64_t epoch = 0;
  std::vector<node_status> nodes;

  friend bool operator==(const cluster_status&, const cluster_status&) = default;
};

}  // namespace weft::schema
