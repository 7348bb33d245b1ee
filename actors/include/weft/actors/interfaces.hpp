// Every actor of a node and every message it understands: the table of contents of this folder.
//
// Actors marked "local" are spoken to inside their process only; their messages may carry pointers.
#pragma once

#include <weft/actors/inspect.hpp>
#include <weft/actors/local_messages.hpp>
#include <weft/actors/messages.hpp>
#include <weft/actors/type_ids.hpp>

#include <caf/replies_to.hpp>
#include <caf/typed_actor.hpp>

namespace weft::actors {

// The view of live nodes. On every candidate; one of them holds it, the others answer that they do not.
using membership_actor = caf::typed_actor<
    // A node comes or comes back: the view it is part of now.
    caf::replies_to<join_atom, join_request>::with<membership_reply>,
    // Still here, knows this epoch: nothing, a newer view, or "you are fenced".
    caf::replies_to<heartbeat_atom, heartbeat>::with<membership_reply>,
    // Goes, orderly.
    caf::reacts_to<leave_atom, machines::node_ref>,
    // Time to look for the silent (sent to itself).
    caf::reacts_to<tick_atom>>;

// The same for its own node (local).
using local_membership_actor = membership_actor::extend<caf::reacts_to<lead_atom, lead_order>,
                                                        // Another holds it now.
                                                        caf::reacts_to<retire_atom>,
                                                        // The connection to that node broke.
                                                        caf::reacts_to<suspect_atom, machines::node_ref>>;

// One shard of who holds what. Soft state. On every node; asked by fabric messages (directory_shard.hpp).
using directory_actor = caf::typed_actor<
    // Keys of all document manifests of this shard.
    caf::replies_to<list_atom>::with<key_list>,
    // The view has changed (local).
    caf::reacts_to<cluster_atom, cluster_ptr>,
    // Time to clean up (sent to itself).
    caf::reacts_to<tick_atom>>;

// The blocks of one node, in its arena. On the way of a block it is asked by fabric messages
// (block_store.hpp).
using storage_actor = caf::typed_actor<
    // Take blocks out of a writer's arena. Answered when each is verified, committed and announced, or
    // refused.
    caf::replies_to<offer_atom, offer>::with<offer_reply>,
    // Where blocks lie, held in place until released or expired.
    caf::replies_to<lease_atom, lease_request>::with<lease_reply>,
    // The reader is done.
    caf::reacts_to<release_atom, std::uint64_t>,
    // Forget blocks; how many were there.
    caf::replies_to<drop_atom, key_list>::with<std::uint64_t>,
    // Keep blocks from eviction, or let them go again; how many were there.
    caf::replies_to<pin_atom, bool, key_list>::with<std::uint64_t>,
    // Which of these are kept from eviction.
    caf::replies_to<pin_atom, key_list>::with<key_list>,
    // How much is held of each, in memory or on file: less than the whole block where bands were trimmed.
    caf::replies_to<size_atom, key_list>::with<held_sizes>,
    // Use and counters.
    caf::replies_to<status_atom>::with<storage_report>,
    // The view has changed (local).
    caf::reacts_to<cluster_atom, cluster_ptr>,
    // Time to end what has run out (sent to itself).
    caf::reacts_to<tick_atom>>;

// The same for its own node (local).
using local_storage_actor = storage_actor::extend<
    // A page of what is held, from that cursor on, of so many items at most.
    caf::replies_to<list_atom, std::uint64_t, std::size_t>::with<held_page>,
    // Drops those that do not prove themselves; which these were.
    caf::replies_to<prove_atom, key_list>::with<key_list>>;

// Copies and scrubs what a storage node holds.
using care_actor = caf::typed_actor<
    // Another's copy was rotten: see to it that there are enough.
    caf::reacts_to<mend_atom, key_list>,
    // What was done (local).
    caf::replies_to<status_atom>::with<care_report>,
    // The view has changed (local).
    caf::reacts_to<cluster_atom, cluster_ptr>,
    // Time to go on (sent to itself).
    caf::reacts_to<tick_atom>>;

// A node's ways to the others (local).
using fabric_actor = caf::typed_actor<
    // Bring ranges of a node's arena into ours.
    caf::replies_to<fetch_atom, fetch_order>::with<fetch_outcome>,
    // What was really selected per peer, and how much came.
    caf::replies_to<status_atom>::with<fabric_report>, caf::reacts_to<cluster_atom, cluster_ptr>>;

// A node's door to the whole pool (local): reads and writes batches of blocks, wherever they are. The same
// without a mailbox: block_pool.hpp.
using pool_actor = caf::typed_actor<
    // Blocks into staging, verified. A key without a block that proves itself by the deadline is a miss.
    caf::replies_to<read_atom, read_order>::with<read_outcome>,
    // Staged blocks to `replicas` holders each; answered when they are committed.
    caf::replies_to<write_atom, write_order>::with<write_outcome>,
    // Who holds what.
    caf::replies_to<locate_atom, key_list>::with<locate_reply>,
    // Forget, pin or unpin everywhere; how many copies there were.
    caf::replies_to<drop_atom, key_list>::with<std::uint64_t>,
    caf::replies_to<pin_atom, bool, key_list>::with<std::uint64_t>,
    // Which of these are kept from eviction by any holder.
    caf::replies_to<pin_atom, key_list>::with<key_list>,
    // The most that a holder has of each.
    caf::replies_to<size_atom, key_list>::with<held_sizes>,
    // Keys of all manifests in the pool.
    caf::replies_to<list_atom>::with<key_list>, caf::replies_to<status_atom>::with<pool_report>,
    caf::reacts_to<cluster_atom, cluster_ptr>,
    // Time for deadlines (sent to itself).
    caf::reacts_to<tick_atom>>;

// The model runner of a node (local, on a thread of its own).
using engine_actor = caf::typed_actor<
    // K and V of a document, seen by itself alone, and its bands where it is to be scored.
    caf::replies_to<encode_atom, encode_order>::with<encoded_document_ptr>,
    // A session whose documents are to be loaded, or lie in a base that is there already. Who asks for a base
    // that another session is loading waits for it.
    caf::replies_to<open_atom, session_order>::with<opened_session>,
    // Documents into the session's cache, rotated to their places.
    caf::replies_to<load_atom, load_order>::with<load_outcome>,
    // Prefill what is to be computed, then decode to the end, together with the other sessions.
    caf::replies_to<generate_atom, generate_order>::with<generate_outcome>,
    // What a question looks for, by itself.
    caf::replies_to<rank_atom, query_order>::with<query_outcome>,
    // Give a session up.
    caf::reacts_to<close_atom, std::uint64_t>,
    // How many sessions are open.
    caf::replies_to<status_atom>::with<std::uint64_t>,
    // One step of all sessions that are decoding (sent to itself).
    caf::reacts_to<step_atom>,
    // Time to show the other ranks of its group that this one lives (sent to itself).
    caf::reacts_to<tick_atom>>;

// Encodes documents and puts them into the pool.
using prefill_actor = caf::typed_actor<
    // Answered when the document can be asked about from any node.
    caf::replies_to<encode_atom, encode_request>::with<document_summary>,
    // The view has changed (local).
    caf::reacts_to<cluster_atom, cluster_ptr>>;

// The same for its own node (local).
using local_prefill_actor = prefill_actor::extend<
    // A document's blocks once more, in bands; the manifest that fits them. `overloaded` while there is
    // anything else to do.
    caf::replies_to<encode_atom, rescore_order>::with<std::shared_ptr<const schema::manifest>>>;

// Scores what was stored whole, while there is nothing else to do (local).
using rescoring_actor = caf::typed_actor<
    // What was done.
    caf::replies_to<status_atom>::with<rescoring_report>,
    // The view has changed.
    caf::reacts_to<cluster_atom, cluster_ptr>,
    // Nobody reads the blocks of this manifest any more (sent to itself).
    caf::reacts_to<drop_atom, std::shared_ptr<const schema::manifest>>,
    // Time to go on (sent to itself).
    caf::reacts_to<tick_atom>>;

// Ranks the blocks of contexts for readers that decode sparsely: queries come here, by the fabric, blocks
// stay.
using retrieval_actor = caf::typed_actor<
    // Answered when it knows them, with which it can rank.
    caf::replies_to<open_atom, retrieval_session>::with<retrieval_held>,
    // The best products of documents' keys with a question's queries.
    caf::replies_to<rank_atom, document_queries>::with<document_products>,
    // The reader is done.
    caf::reacts_to<close_atom, machines::node_ref, std::uint64_t>,
    // Use and counters.
    caf::replies_to<status_atom>::with<retrieval_report>,
    // The view has changed (local): sessions of who is gone end.
    caf::reacts_to<cluster_atom, cluster_ptr>>;

// The same for its own node (local).
using local_retrieval_actor = retrieval_actor::extend<
    // Blocks under some layers' queries. `not_found`: there is no such session.
    caf::reacts_to<rank_atom, ranking_order_ptr>>;

// Answers questions over documents of the pool.
using decode_actor =
    caf::typed_actor<caf::replies_to<ask_atom, question, answer_listener>::with<answer>,
                     // The document was dropped: what is remembered of it is not true any more.
                     caf::reacts_to<drop_atom, id128>,
                     // How many answers still fetch blocks of which this is the first one.
                     caf::replies_to<size_atom, id128>::with<std::uint64_t>,
                     // The view has changed (local).
                     caf::reacts_to<cluster_atom, cluster_ptr>>;

// The node's side of one sparse context (local): knows where its blocks lie and who ranks them. Ends when it
// is told to exit.
using context_actor = caf::typed_actor<
    // Finds the middle blocks and those who rank them; how many retrieval nodes that are.
    caf::replies_to<open_atom>::with<std::uint64_t>,
    // Blocks into slots.
    caf::reacts_to<load_atom, remote_loads_ptr>,
    // Queries to those who rank.
    caf::reacts_to<rank_atom, remote_queries_ptr>,
    // What one of them says (sent to itself).
    caf::reacts_to<rank_atom, ranked_layers_ptr>,
    // What came from whom so far.
    caf::replies_to<status_atom>::with<transfer_list>,
    // Room in staging may be free again (sent to itself).
    caf::reacts_to<load_atom>,
    // Calls may have run out of time (sent to itself).
    caf::reacts_to<tick_atom>>;

// The same for its own node (local).
using local_decode_actor = decode_actor::extend<caf::replies_to<status_atom>::with<decode_report>>;

// A decode node's place in a group that computes together.
using group_actor = caf::typed_actor<
    // The address of a new seat. Whatever group the node was in has ended.
    caf::replies_to<seat_atom, group_round>::with<std::string>,
    // Join these, who took a seat in that round.
    caf::reacts_to<join_atom, group_roster>>;

// The actors of one node that others speak to; null where the node does not have the role.
struct role_handles {
  membership_actor membership;
  directory_actor directory;
  storage_actor storage;
  prefill_actor prefill;
  decode_actor decode;
  care_actor care;
  retrieval_actor retrieval = {};
  group_actor group = {};
};

template <class Inspector>
typename Inspector::result_type inspect(Inspector& f, role_handles& x) {
  return f(caf::meta::type_name("weft::role_handles"), x.membership, x.directory, x.storage, x.prefill,
           x.decode, x.care, x.retrieval, x.group);
}

// Everything that clients can ask of a cluster (local: the RPC server and embedding programs speak to it).
using gateway_actor = caf::typed_actor<
    caf::replies_to<encode_atom, std::string, text_ptr>::with<document_summary>,
    // The same, scored and cut into bands.
    caf::replies_to<encode_atom, std::string, text_ptr, scoring_wish>::with<document_summary>,
    caf::replies_to<ask_atom, question, answer_listener>::with<answer>,
    caf::replies_to<list_atom>::with<document_list>, caf::replies_to<drop_atom, id128>::with<std::uint64_t>,
    caf::replies_to<pin_atom, bool, id128>::with<std::uint64_t>,
    // Opaque blocks of engines that bring their own KV.
    caf::replies_to<locate_atom, key_list>::with<block_list>,
    caf::replies_to<put_atom, opaque_block_ptr>::with<id128>,
    caf::replies_to<get_atom, id128>::with<opaque_block_ptr>, caf::reacts_to<cluster_atom, cluster_ptr>>;

// One per process: joins the cluster, keeps the view, connects the others, answers for this node.
using node_actor = caf::typed_actor<
    // The handles of this node's role actors.
    caf::replies_to<roles_atom>::with<role_handles>,
    // This node's state and counters.
    caf::replies_to<status_atom>::with<node_report>,
    // The state and counters of every node, dead ones that were known included.
    caf::replies_to<status_atom, cluster_atom>::with<cluster_report>,
    // Who leads, as far as this node knows.
    caf::replies_to<lead_atom>::with<machines::candidate_state>,
    // That node has connected to this one, which did not to it: its node actor. Answered with the epoch.
    caf::replies_to<greet_atom, machines::node_ref, caf::strong_actor_ptr>::with<std::uint64_t>,
    // The view has changed (from whoever holds the membership).
    caf::reacts_to<view_atom, machines::view>,
    // Published at this port: join (sent once, by the starting thread).
    caf::reacts_to<join_atom, std::uint16_t>,
    // Answered when this node is ready in that sense; the epoch.
    caf::replies_to<ready_atom, readiness>::with<std::uint64_t>,
    // Leave the cluster; answered with the last epoch when the coordinator was told.
    caf::replies_to<leave_atom>::with<std::uint64_t>,
    // Time to beat (sent to itself).
    caf::reacts_to<tick_atom>>;

}  // namespace weft::actors
