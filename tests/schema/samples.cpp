#include "samples.hpp"

namespace weft::schema::testing {

manifest sample_manifest() {
  manifest m;
  m.document = {0x0123456789abcdef, 0xfedcba9876543210};
  m.name = std::string("notes \xff\0.txt", 12);
  m.fingerprint = {0x1111111111111111, 0x2222222222222222};
  m.encoding = encoding::document;
  m.block_tokens = 16;
  for (int i = 0; i < 40; ++i)
    m.tokens.push_back(i * 3 - 1);
  m.block_keys = {{1, 10}, {2, 20}, {3, 30}};
  m.bands = {{0.25, 1.5f, 0}, {0.5, -2.5f, 1}, {1.0, -1e30f, 2}};
  m.meaning = {"kvzip", {{"chunk_tokens", "2048"}, {"normalise", "layer"}}, "attention"};
  m.link_tokens = {128011, 128012};
  m.creation = {1'770'000'000'000, "prefill", "weft 0.1.0", 333, 12.5, 98304};
  m.band_ends = {4096, 8192, 16384, 4096, 8192, 32768, 4096, 16384, 49152};
  m.band_rows = {10, 8, 20, 16, 40, 40};
  return m;
}

document_info sample_document() {
  return {{5, 6},  "notes.txt", 1000, 16,   65536, {"storage-1", "storage-2"},
          "kvzip", {0.25, 1.0}, 12.5, true, 0.25,  {16384, 65536}};
}

ingest_request sample_ingest() {
  return {"notes.txt", "twelve bytes", "kvzip", 0.25, {0.125}, {"raw", "int8"}};
}

ask_request sample_question() {
  return {"who?", {{5, 6}, {7, 8}}, "be brief",  "full", "star", 0.5, 32, 0.7, 0.9, 42, 0.125, 3,
          4,      "head_dim",       "kvzap_mlp", -6.5};
}

ask_request sample_mixed_question() {
  auto question = sample_question();
  question.documents.clear();
  question.retrieve = 0;
  question.parts = {id128{5, 6}, "said by \xff", id128{7, 8}, id128{5, 6}, "and later"};
  return question;
}

token_piece sample_token() {
  return {-7, "\xc3"};
}

ask_result sample_answer() {
  return {"Ada",
          {17, 4},
          2000,
          12,
          8.5,
          2.25,
          0.75,
          5.5,
          61.5,
          {{"storage-1", "shm", "posix/memory", 65536}},
          1,
          131072,
          262144,
          sparse_info{29, 8, 3, 64, 120, 2, 1, 4, 65536},
          {{{13, 14}, "notes", 2.5}},
          20,
          2,
          1.5,
          640,
          96,
          310,
          2010};
}

block_layout sample_layout() {
  return {std::string("vllm\0bf16", 9), {9, 10}, 64};
}

block_info sample_block() {
  return {{11, 12}, true, 4096, {"storage-1"}};
}

cluster_status sample_status() {
  node_status node;
  node.name = "storage-1";
  node.pid = 4242;
  node.alive = true;
  node.incarnation = 0xfeedfacecafebeef;
  node.roles = {"storage", "gateway"};
  node.dram = {1024, 4096};
  node.file = {2048, 8192};
  node.peers = {{"decode", "shm", "posix/memory", 12.5}};
  node.counters = {{"fabric_bytes", 123456}, {"difference", -1}};
  return {7, {node}};
}

}  // namespace weft::schema::testing
