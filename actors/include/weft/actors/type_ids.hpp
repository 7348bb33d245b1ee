// The types and atoms that cross process borders. Append only: the wire carries names, peers of other
// versions exist.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>

#include <caf/atom.hpp>
#include <caf/error.hpp>
#include <caf/make_message.hpp>
#include <caf/message.hpp>
#include <caf/type_id.hpp>

namespace weft::machines {
struct node_ref;
struct candidate_state;
struct storage_stats;
struct view;
}  // namespace weft::machines

namespace weft::actors {
struct announcement;
struct answer;
struct answer_piece;
struct document_products;
struct document_queries;
struct document_summary;
struct encode_request;
struct group_roster;
struct group_round;
struct heartbeat;
struct held_sizes;
struct join_request;
struct key_list;
struct lease_reply;
struct lease_request;
struct locate_reply;
struct membership_reply;
struct node_report;
struct offer;
struct offer_reply;
struct question;
struct readiness;
struct retrieval_held;
struct retrieval_queries;
struct retrieval_report;
struct retrieval_scores;
struct retrieval_session;
struct role_handles;
struct storage_report;
struct withdrawal;
}  // namespace weft::actors

// clang-format off
CAF_ERROR_CODE_ENUM(weft::errc, "weft")

CAF_BEGIN_TYPE_ID_BLOCK(weft, caf::first_custom_type_id)
  CAF_ADD_TYPE_ID(weft, (weft::id128))
  CAF_ADD_TYPE_ID(weft, (weft::machines::node_ref))
  CAF_ADD_TYPE_ID(weft, (weft::machines::storage_stats))
  CAF_ADD_TYPE_ID(weft, (weft::actors::announcement))
  CAF_ADD_TYPE_ID(weft, (weft::actors::answer))
  CAF_ADD_TYPE_ID(weft, (weft::actors::answer_piece))
  CAF_ADD_TYPE_ID(weft, (weft::actors::document_summary))
  CAF_ADD_TYPE_ID(weft, (weft::actors::encode_request))
  CAF_ADD_TYPE_ID(weft, (weft::actors::heartbeat))
  CAF_ADD_TYPE_ID(weft, (weft::actors::join_request))
  CAF_ADD_TYPE_ID(weft, (weft::actors::key_list))
  CAF_ADD_TYPE_ID(weft, (weft::actors::lease_reply))
  CAF_ADD_TYPE_ID(weft, (weft::actors::lease_request))
  CAF_ADD_TYPE_ID(weft, (weft::actors::locate_reply))
  CAF_ADD_TYPE_ID(weft, (weft::actors::membership_reply))
  CAF_ADD_TYPE_ID(weft, (weft::actors::node_report))
  CAF_ADD_TYPE_ID(weft, (weft::actors::offer))
  CAF_ADD_TYPE_ID(weft, (weft::actors::offer_reply))
  CAF_ADD_TYPE_ID(weft, (weft::actors::question))
  CAF_ADD_TYPE_ID(weft, (weft::actors::readiness))
  CAF_ADD_TYPE_ID(weft, (weft::actors::role_handles))
  CAF_ADD_TYPE_ID(weft, (weft::actors::withdrawal))
  CAF_ADD_TYPE_ID(weft, (weft::machines::candidate_state))
  CAF_ADD_TYPE_ID(weft, (weft::machines::view))
  CAF_ADD_TYPE_ID(weft, (weft::actors::storage_report))
  CAF_ADD_ATOM(weft, weft::actors, announce_atom, "announce")
  CAF_ADD_ATOM(weft, weft::actors, ask_atom, "ask")
  CAF_ADD_ATOM(weft, weft::actors, close_atom, "close")
  CAF_ADD_ATOM(weft, weft::actors, cluster_atom, "cluster")
  CAF_ADD_ATOM(weft, weft::actors, connected_atom, "connected")
  CAF_ADD_ATOM(weft, weft::actors, down_atom, "down")
  CAF_ADD_ATOM(weft, weft::actors, drop_atom, "drop")
  CAF_ADD_ATOM(weft, weft::actors, encode_atom, "encode")
  CAF_ADD_ATOM(weft, weft::actors, fetch_atom, "fetch")
  CAF_ADD_ATOM(weft, weft::actors, fetched_atom, "fetched")
  CAF_ADD_ATOM(weft, weft::actors, generate_atom, "generate")
  CAF_ADD_ATOM(weft, weft::actors, get_atom, "get")
  CAF_ADD_ATOM(weft, weft::actors, heartbeat_atom, "heartbeat")
  CAF_ADD_ATOM(weft, weft::actors, join_atom, "join")
  CAF_ADD_ATOM(weft, weft::actors, lease_atom, "lease")
  CAF_ADD_ATOM(weft, weft::actors, leave_atom, "leave")
  CAF_ADD_ATOM(weft, weft::actors, list_atom, "list")
  CAF_ADD_ATOM(weft, weft::actors, load_atom, "load")
  CAF_ADD_ATOM(weft, weft::actors, locate_atom, "locate")
  CAF_ADD_ATOM(weft, weft::actors, offer_atom, "offer")
  CAF_ADD_ATOM(weft, weft::actors, open_atom, "open")
  CAF_ADD_ATOM(weft, weft::actors, pin_atom, "pin")
  CAF_ADD_ATOM(weft, weft::actors, post_atom, "post")
  CAF_ADD_ATOM(weft, weft::actors, put_atom, "put")
  CAF_ADD_ATOM(weft, weft::actors, read_atom, "read")
  CAF_ADD_ATOM(weft, weft::actors, ready_atom, "ready")
  CAF_ADD_ATOM(weft, weft::actors, release_atom, "release")
  CAF_ADD_ATOM(weft, weft::actors, roles_atom, "roles")
  CAF_ADD_ATOM(weft, weft::actors, status_atom, "status")
  CAF_ADD_ATOM(weft, weft::actors, step_atom, "step")
  CAF_ADD_ATOM(weft, weft::actors, tick_atom, "tick")
  CAF_ADD_ATOM(weft, weft::actors, token_atom, "token")
  CAF_ADD_ATOM(weft, weft::actors, withdraw_atom, "withdraw")
  CAF_ADD_ATOM(weft, weft::actors, write_atom, "write")
  CAF_ADD_ATOM(weft, weft::actors, lead_atom, "lead")
  CAF_ADD_ATOM(weft, weft::actors, publish_atom, "publish")
  CAF_ADD_ATOM(weft, weft::actors, retire_atom, "retire")
  CAF_ADD_ATOM(weft, weft::actors, suspect_atom, "suspect")
  CAF_ADD_ATOM(weft, weft::actors, mend_atom, "mend")
  CAF_ADD_ATOM(weft, weft::actors, prove_atom, "prove")
  CAF_ADD_ATOM(weft, weft::actors, view_atom, "view")
  CAF_ADD_TYPE_ID(weft, (weft::actors::retrieval_held))
  CAF_ADD_TYPE_ID(weft, (weft::actors::retrieval_queries))
  CAF_ADD_TYPE_ID(weft, (weft::actors::retrieval_report))
  CAF_ADD_TYPE_ID(weft, (weft::actors::retrieval_scores))
  CAF_ADD_TYPE_ID(weft, (weft::actors::retrieval_session))
  CAF_ADD_ATOM(weft, weft::actors, rank_atom, "rank")
  CAF_ADD_ATOM(weft, weft::actors, greet_atom, "greet")
  CAF_ADD_TYPE_ID(weft, (weft::actors::held_sizes))
  CAF_ADD_ATOM(weft, weft::actors, size_atom, "size")
  CAF_ADD_TYPE_ID(weft, (weft::actors::document_queries))
  CAF_ADD_TYPE_ID(weft, (weft::actors::document_products))
  CAF_ADD_TYPE_ID(weft, (weft::actors::group_round))
  CAF_ADD_TYPE_ID(weft, (weft::actors::group_roster))
  CAF_ADD_ATOM(weft, weft::actors, seat_atom, "seat")
CAF_END_TYPE_ID_BLOCK(weft)
// clang-format on
