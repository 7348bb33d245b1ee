#include "json_of.hpp"

#include <nlohmann/json.hpp>

namespace weft::launcher {

using nlohmann::json;

json json_of(const client::document_info& document) {
  return {{"id", to_hex(document.id)},
          {"name", document.name},
          {"tokens", document.tokens},
          {"blocks", document.blocks},
          {"bytes", document.bytes},
          {"holders", document.holders},
          {"importance", document.importance},
          {"bands", document.band_ratios},
          {"ms", document.ms},
          {"pinned", document.pinned},
          {"band_bytes", document.band_bytes},
          {"served_ratio", document.served_ratio < 0 ? json() : json(document.served_ratio)}};
}

json json_of(std::span<const client::document_info> documents) {
  json list = json::array();
  for (const auto& document : documents)
    list.push_back(json_of(document));
  return {{"documents", list}};
}

json json_of(const client::ask_result& answer) {
  json transfers = json::array();
  for (const auto& t : answer.transfers)
    transfers.push_back(
        {{"holder", t.holder}, {"transport", t.transport}, {"path", t.path}, {"bytes", t.bytes}});
  json all = {{"answer", answer.answer},
              {"tokens", answer.tokens},
              {"prompt_tokens", answer.prompt_tokens},
              {"recomputed_rows", answer.recomputed_rows},
              {"computed_rows", answer.computed_rows},
              {"reused_rows", answer.reused_rows},
              {"ttft_ms", answer.ttft_ms},
              {"load_ms", answer.load_ms},
              {"rotate_ms", answer.rotate_ms},
              {"compute_ms", answer.compute_ms},
              {"decode_tokens_per_s", answer.decode_tokens_per_s},
              {"transfers", transfers},
              {"misses", answer.misses},
              {"cache_bytes", answer.cache_bytes},
              {"full_bytes", answer.full_bytes},
              {"judged_rows", answer.judged_rows},
              {"dropped_rows", answer.dropped_rows}};
  if (!answer.retrieved.empty()) {
    json documents = json::array();
    for (const auto& d : answer.retrieved)
      documents.push_back({{"id", to_hex(d.id)}, {"name", d.name}, {"score", d.score}});
    all["retrieved"] = documents;
    all["ranked_documents"] = answer.ranked_documents;
    all["unranked_documents"] = answer.unranked_documents;
    all["retrieve_ms"] = answer.retrieve_ms;
  }
  if (const auto& s = answer.sparse)
    all["sparse"] = {{"middle_blocks", s->middle_blocks},     {"chosen_blocks", s->chosen_blocks},
                     {"retrieval_nodes", s->retrieval_nodes}, {"rankings", s->rankings},
                     {"blocks_moved", s->blocks_moved},       {"late_fetches", s->late_fetches},
                     {"stale_rankings", s->stale_rankings},   {"blocks_lost", s->blocks_lost},
                     {"cache_bytes", s->cache_bytes}};
  return all;
}

namespace {

json json_of_pool(const schema::pool_use& pool) {
  return {{"used_bytes", pool.used_bytes}, {"capacity_bytes", pool.capacity_bytes}};
}

json json_of_node(const schema::node_status& node) {
  json peers = json::array();
  for (const auto& p : node.peers)
    peers.push_back(
        {{"name", p.name}, {"transport", p.transport}, {"path", p.path}, {"gb_per_s", p.gb_per_s}});
  json counters = json::object();
  for (const auto& c : node.counters)
    counters[c.name] = c.value;
  return {{"name", node.name},
          {"pid", node.pid},
          {"alive", node.alive},
          {"incarnation", node.incarnation},
          {"roles", node.roles},
          {"dram", json_of_pool(node.dram)},
          {"file", json_of_pool(node.file)},
          {"peers", peers},
          {"counters", counters}};
}

}  // namespace

json json_of(const client::cluster_status& status) {
  json nodes = json::array();
  for (const auto& node : status.nodes)
    nodes.push_back(json_of_node(node));
  return {{"epoch", status.epoch}, {"nodes", nodes}};
}

}  // namespace weft::launcher
