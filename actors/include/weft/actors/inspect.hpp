// How messages become bytes (CAF finds these by their types' namespaces).
#pragma once

#include <weft/actors/mailbox_meter.hpp>
#include <weft/actors/messages.hpp>

#include <caf/meta/type_name.hpp>

// One line per struct: its fields in the order of the wire. Append only.
#define WEFT_INSPECT(type, ...)                                    \
  template <class Inspector>                                       \
  typename Inspector::result_type inspect(Inspector& f, type& x) { \
    return f(caf::meta::type_name("weft::" #type), __VA_ARGS__);   \
  }

// The same for a struct that is a message by itself: its bytes are counted when they leave the process.
#define WEFT_INSPECT_MESSAGE(type, ...)                            \
  template <class Inspector>                                       \
  typename Inspector::result_type inspect(Inspector& f, type& x) { \
    weft::actors::meter(f, x);                                     \
    return f(caf::meta::type_name("weft::" #type), __VA_ARGS__);   \
  }

namespace weft {
WEFT_INSPECT(id128, x.high, x.low)
}

namespace weft::machines {
WEFT_INSPECT(node_ref, x.node, x.incarnation)
WEFT_INSPECT(member, x.ref, x.name, x.roles, x.host, x.control_port, x.fabric_address, x.capacity_bytes,
             x.pid)
WEFT_INSPECT(view, x.epoch, x.members, x.coordinator)
WEFT_INSPECT(membership_answer, x.verdict, x.incarnation_floor, x.epoch, x.view_changed, x.send_view)
WEFT_INSPECT(candidate_state, x.self, x.leads, x.hears, x.coordinator, x.epoch)
WEFT_INSPECT(announced, x.key, x.kind)
WEFT_INSPECT(leased_slot, x.outcome, x.kind, x.offset, x.bytes, x.generation, x.pinned, x.tenant)
WEFT_INSPECT(storage_stats, x.capacity_bytes, x.used_bytes, x.free_bytes, x.largest_hole_bytes,
             x.committed_items, x.committed_bytes, x.reserved_items, x.pinned_items, x.leases, x.hits,
             x.misses, x.evictions, x.expired_reservations, x.demotions, x.over_quota, x.relief_rounds,
             x.trims, x.trimmed_bytes, x.banded_items, x.bands_held)
}  // namespace weft::machines

namespace weft::actors {
WEFT_INSPECT_MESSAGE(join_request, x.who, x.known_epoch, x.known_from)
WEFT_INSPECT_MESSAGE(heartbeat, x.from, x.known_epoch, x.known_from)
WEFT_INSPECT_MESSAGE(membership_reply, x.answer, x.view)
WEFT_INSPECT_MESSAGE(readiness, x.roles, x.nodes)
WEFT_INSPECT(offered_block, x.key, x.kind, x.offset, x.bytes)
WEFT_INSPECT_MESSAGE(offer, x.writer, x.blocks, x.timeout_ns, x.tenant, x.background, x.replace)
WEFT_INSPECT_MESSAGE(offer_reply, x.outcomes)
WEFT_INSPECT_MESSAGE(lease_request, x.reader, x.keys, x.front_bytes)
WEFT_INSPECT_MESSAGE(lease_reply, x.holder, x.lease, x.slots)
WEFT_INSPECT_MESSAGE(key_list, x.keys)
WEFT_INSPECT_MESSAGE(held_sizes, x.bytes)
WEFT_INSPECT_MESSAGE(announcement, x.holder, x.keys, x.complete_epoch, x.sequence)
WEFT_INSPECT_MESSAGE(withdrawal, x.holder, x.keys, x.sequence)
WEFT_INSPECT(located_key, x.holders, x.maybe)
WEFT_INSPECT_MESSAGE(locate_reply, x.keys)
WEFT_INSPECT_MESSAGE(encode_request, x.name, x.tokens, x.importance, x.band_millionths, x.band_codecs)
WEFT_INSPECT_MESSAGE(document_summary, x.id, x.name, x.tokens, x.blocks, x.bytes, x.holders, x.microseconds,
                     x.pinned, x.importance, x.band_millionths, x.band_bytes, x.served_millionths)
WEFT_INSPECT(text_between, x.documents_before, x.text)
WEFT_INSPECT_MESSAGE(question, x.text, x.system, x.documents, x.stitch, x.max_tokens,
                     x.temperature_millionths, x.top_p_millionths, x.seed, x.ratio_millionths, x.retrieval,
                     x.sparse_ratio_millionths, x.retrieve, x.stride, x.scale, x.judge,
                     x.threshold_millionths, x.texts)
WEFT_INSPECT(transfer_summary, x.holder, x.transport, x.path, x.bytes)
WEFT_INSPECT(sparse_summary, x.middle_blocks, x.chosen_blocks, x.retrieval_nodes, x.rankings, x.blocks_moved,
             x.late_fetches, x.stale_rankings, x.blocks_lost, x.cache_bytes)
WEFT_INSPECT(retrieved_document, x.id, x.name, x.score_millionths)
WEFT_INSPECT_MESSAGE(answer, x.text, x.tokens, x.prompt_tokens, x.recomputed_rows, x.ttft_microseconds,
                     x.load_microseconds, x.rotate_microseconds, x.compute_microseconds,
                     x.decode_microseconds, x.transfers, x.misses, x.cache_bytes, x.full_bytes, x.sparse,
                     x.retrieved, x.ranked_documents, x.unranked_documents, x.retrieve_microseconds,
                     x.judged_rows, x.dropped_rows, x.computed_rows, x.reused_rows)
WEFT_INSPECT_MESSAGE(answer_piece, x.token, x.text)
WEFT_INSPECT_MESSAGE(group_round, x.leader, x.number)
WEFT_INSPECT_MESSAGE(group_roster, x.round, x.rank, x.addresses)
WEFT_INSPECT(peer_report, x.name, x.transport, x.path, x.bytes, x.nanoseconds)
WEFT_INSPECT(counter, x.name, x.value)
WEFT_INSPECT_MESSAGE(node_report, x.name, x.pid, x.alive, x.incarnation, x.roles, x.dram_used_bytes,
                     x.dram_capacity_bytes, x.peers, x.counters, x.file_used_bytes, x.file_capacity_bytes)
WEFT_INSPECT(retrieval_document, x.first_block, x.start_position, x.tokens)
WEFT_INSPECT(retrieval_block, x.key, x.number, x.document, x.first_token)
WEFT_INSPECT_MESSAGE(retrieval_session, x.reader, x.number, x.fingerprint, x.policy, x.scale, x.layers,
                     x.query_heads, x.kv_heads, x.head_dim, x.dtype, x.block_tokens, x.frequencies,
                     x.documents, x.blocks)
WEFT_INSPECT_MESSAGE(retrieval_held, x.blocks)
WEFT_INSPECT_MESSAGE(retrieval_queries, x.reader, x.number, x.steps, x.layers, x.queries)
WEFT_INSPECT_MESSAGE(retrieval_scores, x.sums, x.totals)
WEFT_INSPECT_MESSAGE(document_queries, x.fingerprint, x.layer, x.query_heads, x.kv_heads, x.head_dim,
                     x.queries, x.documents)
WEFT_INSPECT_MESSAGE(document_products, x.known, x.best)
WEFT_INSPECT_MESSAGE(retrieval_report, x.sessions, x.rankings, x.blocks, x.documents)
WEFT_INSPECT_MESSAGE(storage_report, x.memory, x.file_used_bytes, x.file_capacity_bytes, x.counters)
}  // namespace weft::actors

#undef WEFT_INSPECT_MESSAGE
#undef WEFT_INSPECT
