// What one node of a cluster is told at its start. The launcher fills it from the cluster file, an embedding
// program by hand.
#pragma once

#include <weft/policies/eviction.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace weft::actors {

enum class role : std::uint8_t { prefill = 0, storage = 1, decode = 2, gateway = 3, retrieval = 4 };

// Certificates of the cluster's own authority. All three or none; none only while every host is a loopback
// address.
struct tls_files {
  std::filesystem::path certificate;
  std::filesystem::path key;
  std::filesystem::path authority;

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
};

// A node that can hold the membership, as the cluster file names it.
struct candidate {
  std::string name;
  std::string host;
  std::uint16_t control_port = 0;  // 0: it writes its port to the run folder
};

// Files of the run folder in which nodes leave their control addresses: this and the node's name.
inline constexpr const char* node_address_prefix = "node-";

struct node_config {
  std::string name;
  std::vector<role> roles;
  std::string host = "127.0.0.1";  // address that this node listens on, for control and fabric

  // Control plane port, 0: chosen by the system and published through membership.
  std::uint16_t control_port = 0;
  std::uint16_t fabric_port = 0;

  // The first nodes of the cluster file, in its order: the first that lives holds the membership. At most
  // `machines::max_candidates` count. None: this node is alone and holds it.
  std::vector<candidate> candidates;
  std::filesystem::path run_folder;  // where the nodes of one host write their control addresses

  std::filesystem::path model_folder;  // needed by prefill and decode
  unsigned threads = 0;                // of the model runner; 0: all cores
  std::string cache_dtype = "auto";    // auto, f32, bf16, f16
  std::string device = "cpu";          // that the model runs on: cpu, auto, cuda:0, cuda:1, ...
  std::uint64_t cache_bytes = 0;  // decode: KV cache of all sessions together; 0: as much as they ask for
  std::chrono::milliseconds retrieval_patience{250};  // that a ranking of blocks is waited for
  std::uint32_t block_tokens = 64;                    // 16 .. 256
  std::uint32_t replicas = 1;                         // copies of every block, where its tenant says nothing
  std::string tenant = "default";                     // salt of the block keys
  std::uint64_t dram_bytes = 0;                       // storage: arena for blocks
  policies::eviction_kind eviction = policies::eviction_kind::lru;
  // Above the high one (per cent of `dram_bytes`), blocks are evicted down to the low one. 100: when room is
  // needed, and no more than that.
  std::uint32_t high_watermark_percent = 100;
  std::uint32_t low_watermark_percent = 90;
  std::map<std::string, std::uint64_t> quota_bytes;      // of each storage node's memory, by tenant
  std::map<std::string, std::uint32_t> tenant_replicas;  // copies of every block, by tenant
  std::filesystem::path file_folder;                     // storage: a tier below memory; empty: none
  std::uint64_t file_bytes = 0;                          // of blocks in it
  std::uint64_t staging_bytes = 64ULL << 20;  // arena for blocks on their way in or out of the engine

  // decode: documents' rows that a session read and that the next question on the same documents finds there.
  // 0: sessions share them only while they run.
  std::uint64_t base_bytes = 0;
  // decode: the same of openings, which are system texts. 0: sessions share them only while they run.
  std::uint64_t opening_bytes = 256ULL << 20;

  // decode: the nodes that compute together, this one among them, in the cluster file's order; the first that
  // lives leads. Empty name: this node alone.
  std::string group;
  std::vector<std::string> group_nodes;

  // prefill: documents that were stored whole are scored by that policy while there is nothing else to do,
  // and put in bands that end at these ratios. Empty: they stay as they are.
  std::string background_importance;
  std::vector<std::uint32_t> background_bands{100'000, 200'000, 300'000, 500'000, 700'000, 1'000'000};

  std::uint64_t replication_bytes_per_second = 256ULL << 20;  // of copies that are made after a loss
  std::uint64_t scrub_bytes_per_second = 16ULL << 20;         // of blocks in memory; 0: never

  std::chrono::milliseconds heartbeat_interval{250};
  std::chrono::milliseconds liveness_timeout{1500};  // a node not heard of for so long is dead
  std::chrono::milliseconds read_deadline{1000};
  std::chrono::milliseconds lease_duration{5000};

  tls_files tls;
};

// Copies of every block that this node's own tenant writes.
std::uint32_t own_replicas(const node_config& config);

}  // namespace weft::actors
