// What actors of one process say to each other: may hold handles, spans and shared pointers, never crosses
// the wire.
#pragma once

#include <weft/actors/answer_listener.hpp>
#include <weft/actors/block_bytes.hpp>
#include <weft/actors/messages.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/actors/staging.hpp>
#include <weft/base/time.hpp>
#include <weft/block/block_verifier.hpp>
#include <weft/engine/banded_document.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/engine/surrogate.hpp>
#include <weft/fabric/fetch_watcher.hpp>
#include <weft/fabric/transport.hpp>
#include <weft/kernels/row_codec.hpp>
#include <weft/machines/replication.hpp>
#include <weft/policies/retrieval/block_plan.hpp>
#include <weft/policies/stitch.hpp>

#include <caf/allowed_unsafe_message_type.hpp>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace weft::schema {
struct manifest;
}

namespace weft::actors {

// -- the cluster --

// A view and the handles of its nodes (cluster.hpp).
struct cluster;
using cluster_ptr = std::shared_ptr<const cluster>;

// -- membership --

// Hold the membership from now on.
struct lead_order {
  machines::node_ref self;
  unsigned rank = 0;
  machines::view inherited;                             // epoch 0: nobody held it before
  std::function<void(const machines::view&)> announce;  // called with every new view
};

// -- looking after blocks --

// A page of what a storage node holds.
struct held_page {
  std::vector<machines::held_item> items;  // none: there is no more
  std::uint64_t next_cursor = 0;
};

struct care_report {
  std::uint64_t copies_made = 0;
  std::uint64_t copies_failed = 0;  // no node could take them
  std::uint64_t bytes_copied = 0;
  std::uint64_t scrubbed_blocks = 0;
  std::uint64_t rotten_blocks = 0;
};

// -- fabric --

struct device_landing;  // device_landing.hpp

struct fetch_order {
  id128 node;
  std::vector<fabric::fetch_range> ranges;
  duration timeout{};
  std::shared_ptr<fabric::fetch_watcher> watcher;  // may be null
  bool in_place = false;                           // view them; `unsupported` where the way there copies
  // To the device beside the arena, as far from its beginning, and proven there: no watcher sees them.
  // `unsupported` where the way there is none of gets; `internal` or `out_of_space` where the device failed.
  std::shared_ptr<const device_landing> landing = nullptr;
  std::vector<block::expectation> expected = {};  // by range, of those that land
};

struct fetch_outcome {
  std::vector<result<void>> ranges;  // by range of the order
  errc fabric = errc::ok;            // what it said of all of them, before a device proved any
  std::uint64_t bytes = 0;
  std::string transport;
  std::string path;
  std::vector<fabric::arena_view> views;  // by range, of an order in place
};

struct fabric_report {
  std::vector<peer_report> peers;
  fabric::transport_counters counters;
  bool moves_cuda_memory = false;
};

// -- pool --

struct read_order {
  std::vector<id128> keys;
  id128 fingerprint;  // that every block must carry
  duration timeout{};
  // By key: so many bytes from a block's beginning, which end with one of its bands; a holder that has fewer
  // does not count as one. 0, or none at all: whole blocks.
  std::vector<std::uint64_t> front_bytes = {};
  // The reader is done with the bytes soon, within a lease, and asks `intact` when it is: it may get blocks
  // where their holders have them.
  bool in_place = false;
  // Only the device reads the rows: blocks that would be copied here may land there (`block_bytes::landing`).
  bool on_device = false;
};

// What one key of a read came to.
struct read_block {
  result<void> outcome;
  std::shared_ptr<const block_bytes> bytes;  // verified; null unless ok
};

struct read_results {
  std::vector<read_block> blocks;  // by key of the order
  std::vector<transfer_summary> transfers;
};
using read_outcome = std::shared_ptr<const read_results>;

struct block_to_write {
  id128 key;
  machines::item_kind kind{};
  std::shared_ptr<const staged_bytes> bytes;
  id128 placed_by = {};  // stands where that key would; zero: its own
};

struct write_order {
  std::vector<block_to_write> blocks;
  std::uint32_t replicas = 1;
  duration timeout{};
  bool replace = false;  // what is held under these keys gives way
};

struct write_results {
  std::vector<result<void>> blocks;  // by block of the order
  std::vector<std::string> holders;  // names of nodes that committed any
};
using write_outcome = std::shared_ptr<const write_results>;

struct pool_report {
  std::uint64_t blocks_read = 0;
  std::uint64_t blocks_missed = 0;
  std::uint64_t blocks_rejected = 0;    // arrived, did not prove themselves
  std::uint64_t blocks_remembered = 0;  // read where they were before, without asking
  std::uint64_t blocks_moved = 0;       // were not there any more
  std::uint64_t blocks_landed = 0;      // came straight to the device
  std::uint64_t landings_failed = 0;    // fetches that went to the arena because gets or the device failed
  std::uint64_t blocks_written = 0;
  std::uint64_t blocks_degraded = 0;  // written to fewer nodes than asked for
  std::uint64_t staging_used_bytes = 0;
};

// -- contexts whose middle blocks stay in the pool --

// What is known of one before anything moves.
struct sparse_context_plan {
  policies::retrieval::options how;
  std::vector<policies::retrieval::context_document> documents;
  policies::retrieval::block_plan blocks;
  std::vector<id128> first_blocks;                // by document: keys
  std::vector<sparse_index_ptr> indexes;          // by document
  std::vector<std::uint32_t> bands;               // by document: how many of them are attended
  std::vector<id128> middle_keys;                 // by middle block
  std::vector<std::uint64_t> middle_front_bytes;  // of its wanted bands; 0: all
  std::vector<std::uint32_t> slot_rows;           // [layer][kv_head]: the most of a middle block
  id128 fingerprint;
  engine::kv_shape shape;
  std::uint32_t query_heads = 0;
  std::vector<float> frequencies;  // of RoPE
};
using sparse_context_plan_ptr = std::shared_ptr<const sparse_context_plan>;

struct transfer_list {
  std::vector<transfer_summary> transfers;
};

// The engine's end of such a context (remote_context.hpp).
class remote_context;
using remote_context_ptr = std::shared_ptr<remote_context>;

struct remote_loads;
struct remote_queries;
using remote_loads_ptr = std::shared_ptr<const remote_loads>;
using remote_queries_ptr = std::shared_ptr<const remote_queries>;

// Queries that came by the fabric, and where the scores go: called once, on the thread of who ranks.
struct ranking_order {
  retrieval_queries asked;
  std::function<void(result<retrieval_scores>)> answer;
};
using ranking_order_ptr = std::shared_ptr<const ranking_order>;

// What a retrieval node said to some layers' queries of a context.
struct ranked_layers {
  std::size_t ranker = 0;
  std::uint64_t round = 0;
  std::vector<std::uint32_t> layers;
  result<retrieval_scores> scores;
};
using ranked_layers_ptr = std::shared_ptr<const ranked_layers>;

// -- engine --

using encoded_document_ptr = std::shared_ptr<const engine::banded_document>;

using token_vector = std::shared_ptr<const std::vector<engine::token_id>>;

struct encode_order {
  token_vector tokens;
  std::optional<engine::banding> scoring = std::nullopt;
};

// One layer's queries of the last rows of a prompt that stands alone, before RoPE.
struct query_order {
  token_vector tokens;
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;
};
using query_outcome = std::shared_ptr<const std::vector<float>>;  // [row][query_head][head_dim]

// Rows that a plan computes in front of the question and that sessions share: those of its rows from `first`
// to before `last`.
struct computed_rows {
  id128 key;  // of all that they are made of
  std::uint32_t first = 0;
  std::uint32_t last = 0;
};

// Rows of documents that sessions share.
struct base_order {
  // Those in one codec. A head may have none.
  struct part {
    kernels::row_codec coding = kernels::row_codec::raw;
    std::vector<std::uint32_t> capacity_rows;  // [layer][kv_head]
  };
  id128 key;                // of the documents, their bands and places, and of what is computed among them
  std::vector<part> parts;  // by codec
  // All that the plan computes between the opening and the question is computed into the one part that there
  // is, since rows of the documents are among it.
  bool computes = false;

  // On a device that takes all passes, nobody else reads what is loaded into it.
  bool is_read_by_passes() const {
    const auto raw = [](const part& p) { return p.coding == kernels::row_codec::raw; };
    return !computes && std::ranges::all_of(parts, raw);
  }
};

struct session_order {
  std::vector<std::uint32_t> capacity_rows;  // [layer][kv_head]; without those that are shared
  std::optional<base_order> base;            // none: documents are loaded into the session's own rows
  std::shared_ptr<const policies::stitch_plan> plan;  // what will be loaded and computed
  remote_context_ptr remote = nullptr;                // null: the whole prompt lies in the session's cache
  // Computed in front of the documents, and what is computed between opening and question where no row of a
  // document is. None: computed with the question.
  std::optional<computed_rows> opening = std::nullopt;
  std::optional<computed_rows> prefix = std::nullopt;

  bool shares() const { return base || opening || prefix; }
};

struct opened_session {
  std::uint64_t number = 0;
  bool loaded = false;  // its documents' rows were there already
  std::uint64_t compute_microseconds = 0;
};

// A document and where it lands in the prompt: out of verified blocks, or, without any, to be computed from
// its tokens.
struct document_to_load {
  std::vector<std::shared_ptr<const block_bytes>> blocks;
  token_vector tokens;
  // Of a scored document: how, with these parameters of the policy, and how many of its bands are loaded.
  std::optional<engine::banding> scoring = std::nullopt;
  std::vector<policies::row_scoring::parameter> parameters = {};
  std::uint32_t bands = 1;
  std::int32_t start_position = 0;
  std::int32_t segment = 0;
};

struct load_order {
  std::uint64_t session = 0;
  std::vector<document_to_load> documents;  // by ascending position, also across orders
};

struct load_outcome {
  std::uint64_t rotate_microseconds = 0;
  std::uint64_t encode_microseconds = 0;
  // Of the order's documents, those whose views had ended: before they were loaded, so that they are still to
  // be, out of copies, like those that a failing device did not give; and while they were, so that they were
  // computed.
  std::vector<std::size_t> to_read_again;
  std::vector<std::size_t> computed;
};

// Rows of question and answer are scored when they are made, and go when they leave the window of the newest
// ones with less than that (docs/importance.md).
struct row_judging {
  engine::surrogate_kind guesser = engine::surrogate_kind::mlp;
  float least_score = 0;
};

struct generate_order {
  std::uint64_t session = 0;
  std::shared_ptr<const policies::stitch_plan> plan;
  engine::sampling how;
  std::uint32_t max_tokens = 0;
  answer_listener listener;  // may be null
  std::optional<row_judging> judging = std::nullopt;
};

struct generate_outcome {
  std::vector<engine::token_id> tokens;    // the stop token is not among them
  std::uint64_t prefill_microseconds = 0;  // to the first token
  std::uint64_t decode_microseconds = 0;   // from the first token to the last
  std::uint64_t cache_bytes = 0;           // that the session's cache allocated
  sparse_summary sparse = {};
  std::uint64_t judged_rows = 0;
  std::uint64_t dropped_rows = 0;
  std::uint64_t computed_rows = 0;  // of those that the plan computes
  std::uint64_t reused_rows = 0;    // that others had computed
};

struct decode_report {
  std::uint64_t sessions = 0;
  std::uint64_t shared_sessions = 0;  // that read rows which another one had loaded
  std::uint64_t bytes_read = 0;       // of documents' blocks
  std::uint64_t bytes_left_out = 0;   // of bands that a ratio left where they are
  bool grouped = false;               // the node belongs to a group; the rest is of that
  std::uint64_t group_ranks = 0;      // that compute together with this one; 0: there is no group just now
  std::uint64_t group_rank = 0;
  std::uint64_t groups_made = 0;  // that this node was in
  std::uint64_t asked_again = 0;  // questions whose group was lost before they were answered
};

// -- gateway --

using text_ptr = std::shared_ptr<const std::string>;

// How a document that is ingested is to be scored and cut.
struct scoring_wish {
  std::string importance;                      // policy; empty: not scored
  std::vector<std::uint32_t> band_millionths;  // as in encode_request
  std::vector<std::uint8_t> band_codecs = {};
};

// A document that was stored whole, again, in bands; its manifest is left to whoever asks.
struct rescore_order {
  std::shared_ptr<const schema::manifest> before;
  scoring_wish scoring;
};

struct rescoring_report {
  std::uint64_t waiting = 0;  // documents without bands that are known of
  std::uint64_t done = 0;
  std::uint64_t failed = 0;
};

struct document_list {
  std::vector<document_summary> documents;
};

struct opaque_block {
  id128 key;
  std::string layout;
  id128 fingerprint;
  std::uint32_t tokens = 0;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;  // keeps `bytes` valid
};
using opaque_block_ptr = std::shared_ptr<const opaque_block>;

struct block_entry {
  id128 key;
  bool present = false;
  std::uint64_t bytes = 0;
  std::vector<std::string> holders;
};

struct block_list {
  std::vector<block_entry> blocks;
};

}  // namespace weft::actors

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::cluster_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::cluster_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::lead_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::held_page)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::care_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::fetch_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::fetch_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::fabric_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::read_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::read_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::write_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::write_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::pool_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::encoded_document_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::encode_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::session_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::query_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::query_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::rescore_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::rescoring_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(std::shared_ptr<const weft::schema::manifest>)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::opened_session)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::decode_report)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::load_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::load_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::generate_order)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::generate_outcome)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::text_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::scoring_wish)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::document_list)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::opaque_block_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::block_list)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::transfer_list)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::remote_loads_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::remote_queries_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::ranking_order_ptr)
CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft::actors::ranked_layers_ptr)
