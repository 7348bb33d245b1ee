// What actors say to each other, also between processes: plain integers, strings and vectors of them. No
// floating point (CAF 0.17 mangles it: fixed point or bit patterns), nothing near 1 MiB, bulk bytes never:
// those stay in an arena and are named by node, offset and length.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/machines/directory.hpp>
#include <weft/machines/item_kind.hpp>
#include <weft/machines/membership.hpp>
#include <weft/machines/storage.hpp>
#include <weft/machines/succession.hpp>
#include <weft/machines/view.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace weft::actors {

// No message between nodes is larger; longer lists are cut into several.
inline constexpr std::size_t max_mailbox_message_bytes = std::size_t{1} << 20;
inline constexpr std::size_t max_keys_per_message = 32768;

// -- membership --

struct join_request {
  machines::member who;
  std::uint64_t known_epoch = 0;
  machines::node_ref known_from;  // the coordinator that published it
};

struct heartbeat {
  machines::node_ref from;
  std::uint64_t known_epoch = 0;
  machines::node_ref known_from;
};

struct membership_reply {
  machines::membership_answer answer;
  machines::view view;  // epoch 0: the asking node has the latest
};

// When a node is of use: it has joined, and can speak to a live node of each of these roles and to each of
// these nodes.
struct readiness {
  std::uint32_t roles = 0;  // bit i: role i
  std::vector<std::string> nodes;
};

// -- storage --

// A finished block in the writer's arena.
struct offered_block {
  id128 key;
  machines::item_kind kind{};
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

// "Take these": the storage node fetches them, verifies, commits, announces, and only then answers.
struct offer {
  machines::node_ref writer;  // node whose arena holds the bytes
  std::vector<offered_block> blocks;
  std::uint64_t timeout_ns = 0;
  std::uint32_t tenant = 0;  // whose quota they count against: `tenant_number` of its name
  bool background = false;   // a copy that may take free room only
  bool replace = false;      // what is held under these keys gives way
};

struct offer_reply {
  std::vector<std::uint8_t> outcomes;  // errc, by block of the offer
};

struct lease_request {
  machines::node_ref reader;
  std::vector<id128> keys;
  std::vector<std::uint64_t> front_bytes = {};  // by key: so much of it is wanted; 0, or none: all of it
};

struct lease_reply {
  machines::node_ref holder;                 // whose incarnation the blocks carry
  std::uint64_t lease = 0;                   // 0: none of the keys is held
  std::vector<machines::leased_slot> slots;  // by key of the request
};

struct key_list {
  std::vector<id128> keys;
};

struct held_sizes {
  std::vector<std::uint64_t> bytes;  // by key of the request; 0: not held
};

// -- directory --

struct announcement {
  machines::node_ref holder;
  std::vector<machines::announced> keys;
  std::uint64_t complete_epoch = 0;  // not 0: with these, all that the holder has was announced for that view
  std::uint64_t sequence = 0;        // of what this life says to that shard; later ones are higher
};

struct withdrawal {
  machines::node_ref holder;
  std::vector<id128> keys;
  std::uint64_t sequence = 0;
};

struct located_key {
  std::vector<machines::node_ref> holders;
  bool maybe = false;  // none known, but the shard is being rebuilt or did not answer
};

struct locate_reply {
  std::vector<located_key> keys;  // by key of the request
};

// -- documents and questions --

struct encode_request {
  std::string name;
  std::vector<std::int32_t> tokens;  // of the whole document, the model's document marker included
  std::string importance;            // policy that scores the rows; empty: they are not scored
  std::vector<std::uint32_t>
      band_millionths;                    // where bands end, ascending; rows beyond the last are left out
  std::vector<std::uint8_t> band_codecs;  // block::codec of each band; empty: raw
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
  std::string importance;                      // policy that scored the rows; "none"
  std::vector<std::uint32_t> band_millionths;  // part of the rows that bands 0..i keep
  std::vector<std::uint64_t> band_bytes;       // of bands 0..i of all blocks; empty where not known
  std::int64_t served_millionths = -1;         // of them the last that is held whole; -1: not looked up
};

// Text that is computed where it stands among a question's documents.
struct text_between {
  std::uint32_t documents_before = 0;
  std::string text;
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
  std::uint32_t ratio_millionths = 0;  // of the documents' rows that are wanted; 0: all that are stored
  std::string retrieval = {};          // policy of sparse decoding; empty: dense
  std::uint32_t sparse_ratio_millionths = 250000;  // of the middle blocks that are attended
  std::uint32_t retrieve = 0;  // choose so many documents of the pool; 0: `documents` names them
  std::uint32_t stride = 0;    // steps of a period of sparse decoding; 0: the default
  std::string scale = {};      // of its products; empty: the default
  // Surrogate that judges the rows of question and answer while they are made; empty: all of them stay.
  std::string judge = {};
  std::int64_t threshold_millionths = 0;  // rows that it gives less go
  std::vector<text_between> texts = {};   // in the order of the prompt
};

struct transfer_summary {
  std::string holder;
  std::string transport;
  std::string path;
  std::uint64_t bytes = 0;
};

// What sparse decoding did for an answer. Blocks are those of one layer.
struct sparse_summary {
  std::uint64_t middle_blocks = 0;  // of the context, that may be chosen
  std::uint64_t chosen_blocks = 0;  // of them, in each layer
  std::uint64_t retrieval_nodes = 0;
  std::uint64_t rankings = 0;
  std::uint64_t blocks_moved = 0;    // for decoding
  std::uint64_t late_fetches = 0;    // a step waited
  std::uint64_t stale_rankings = 0;  // a retrieval node did not answer in time
  std::uint64_t blocks_lost = 0;     // chosen, and no holder delivered them
  std::uint64_t cache_bytes = 0;     // resident rows and slots
};

// A document that was chosen for a question.
struct retrieved_document {
  id128 id;
  std::string name;
  std::int64_t score_millionths = 0;
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
  std::uint64_t misses = 0;       // blocks that no holder delivered and that were computed here
  std::uint64_t cache_bytes = 0;  // what the allocator was asked for the session's rows
  std::uint64_t full_bytes = 0;   // of the blocks that were read, had all their bands been
  sparse_summary sparse = {};     // middle_blocks 0: decoded densely
  std::vector<retrieved_document> retrieved = {};  // best first; empty: the documents were named
  std::uint64_t ranked_documents = 0;              // that they were chosen among
  std::uint64_t unranked_documents = 0;
  std::uint64_t retrieve_microseconds = 0;  // a part of ttft_microseconds
  std::uint64_t judged_rows = 0;            // of question and answer, in all layers and heads
  std::uint64_t dropped_rows = 0;           // of them
  std::uint64_t computed_rows = 0;          // of the prompt, in place: not of documents that are encoded
  std::uint64_t reused_rows = 0;            // of the prompt, that an earlier question had computed
};

struct answer_piece {
  std::int32_t token = 0;
  std::string text;
};

// -- groups of decode nodes that compute together --

// One try to make a group.
struct group_round {
  machines::node_ref leader;
  std::uint64_t number = 0;  // of the leader's tries
};

// Who computes together.
struct group_roster {
  group_round round;
  std::uint32_t rank = 0;              // of the node that it is sent to
  std::vector<std::string> addresses;  // of the seats, by rank
};

// -- retrieval: who ranks the blocks of a context for a reader. Floats travel as their bytes --

struct retrieval_document {
  id128 first_block;  // which its index is named by
  std::int32_t start_position = 0;
  std::uint32_t tokens = 0;
};

struct retrieval_block {
  id128 key;
  std::uint32_t number = 0;  // among the context's middle blocks
  std::uint32_t document = 0;
  std::uint32_t first_token = 0;  // in its document
};

// Some blocks of a context and how they are to be ranked.
struct retrieval_session {
  machines::node_ref reader;
  std::uint64_t number = 0;  // of the reader's
  id128 fingerprint;
  std::uint8_t policy = 0;
  std::uint8_t scale = 0;
  std::uint32_t layers = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint8_t dtype = 0;
  std::uint32_t block_tokens = 0;
  std::string frequencies;  // f32, of RoPE
  std::vector<retrieval_document> documents;
  std::vector<retrieval_block> blocks;  // by number
};

struct retrieval_held {
  std::vector<std::uint32_t> blocks;  // numbers of those that can be ranked, ascending
};

struct retrieval_queries {
  machines::node_ref reader;
  std::uint64_t number = 0;
  std::uint32_t steps = 0;
  std::vector<std::uint32_t> layers;
  std::string queries;  // f32 [layer][step][query_head][head_dim], after RoPE
};

struct retrieval_scores {
  std::vector<std::string> sums;    // by layer: f32 [line][block held]
  std::vector<std::string> totals;  // by layer: f32 [line][maximum, sum]; empty: sums are scores
};

// Which documents a question is about: its queries of the ranking layer, before RoPE.
struct document_queries {
  id128 fingerprint;
  std::uint32_t layer = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t head_dim = 0;
  std::string queries;  // f32 [row][query_head][head_dim]
  std::vector<id128> documents;
};

struct document_products {
  std::vector<std::uint8_t> known;  // by document of the request
  std::string best;                 // f32 [known document][row][query_head]
};

struct retrieval_report {
  std::uint64_t sessions = 0;
  std::uint64_t rankings = 0;   // of one layer's blocks
  std::uint64_t blocks = 0;     // that sessions can rank now
  std::uint64_t documents = 0;  // whose keys are at hand
};

// -- status --

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
  std::uint64_t file_used_bytes = 0;
  std::uint64_t file_capacity_bytes = 0;
};

// A storage role's memory and what is below it.
struct storage_report {
  machines::storage_stats memory;
  std::uint64_t file_used_bytes = 0;
  std::uint64_t file_capacity_bytes = 0;  // 0: no file tier
  std::vector<counter> counters;          // of the file tier
};

struct cluster_report {
  std::uint64_t epoch = 0;
  std::vector<node_report> nodes;
};

}  // namespace weft::actors
