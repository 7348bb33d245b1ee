// Between the plain structs of rpc_types.hpp and the wire. Reading takes what it finds: sizes are bounded by
// the message limits of the connection, meanings are checked by whoever acts on them.
#pragma once

#include <weft/schema/rpc_types.hpp>
#include <weft/schema/weft.capnp.h>

#include <kj/common.h>

#include <string>
#include <string_view>

namespace weft::schema {

kj::ArrayPtr<const kj::byte> to_data(std::string_view bytes);
std::string to_string(capnp::Data::Reader bytes);

id128 read(wire::Id128::Reader from);
document_info read(wire::DocumentInfo::Reader from);
ask_request read(wire::GenerateRequest::Reader from);
token_piece read(wire::TokenPiece::Reader from);
ask_result read(wire::GenerateResult::Reader from);
block_layout read(wire::BlockLayout::Reader from);
block_info read(wire::BlockInfo::Reader from);
transfer_info read(wire::Transfer::Reader from);
retrieved_document read(wire::RetrievedDocument::Reader from);
pool_use read(wire::PoolUse::Reader from);
peer_info read(wire::Peer::Reader from);
counter read(wire::Counter::Reader from);
node_status read(wire::NodeStatus::Reader from);
cluster_status read(wire::ClusterStatus::Reader from);

void write(const id128& value, wire::Id128::Builder to);
void write(const document_info& value, wire::DocumentInfo::Builder to);
void write(const ingest_request& value, wire::IngestRequest::Builder to);  // all but the text
void write(const ask_request& value, wire::GenerateRequest::Builder to);
void write(const token_piece& value, wire::TokenPiece::Builder to);
void write(const ask_result& value, wire::GenerateResult::Builder to);
void write(const block_layout& value, wire::BlockLayout::Builder to);
void write(const block_info& value, wire::BlockInfo::Builder to);
void write(const transfer_info& value, wire::Transfer::Builder to);
void write(const retrieved_document& value, wire::RetrievedDocument::Builder to);
void write(const pool_use& value, wire::PoolUse::Builder to);
void write(const peer_info& value, wire::Peer::Builder to);
void write(const counter& value, wire::Counter::Builder to);
void write(const node_status& value, wire::NodeStatus::Builder to);
void write(const cluster_status& value, wire::ClusterStatus::Builder to);

// The head of an ingest: everything but the text.
ingest_request read(wire::IngestRequest::Reader from);

// A vector of structs and the list of the same.
template <class Value, class List>
std::vector<Value> read_list(const List& from) {
  std::vector<Value> values;
  values.reserve(from.size());
  for (const auto element : from)
    values.push_back(read(element));
  return values;
}

template <class Values, class List>
void write_list(const Values& values, List to) {
  auto index = 0u;
  for (const auto& value : values)
    write(value, to[index++]);
}

}  // namespace weft::schema
