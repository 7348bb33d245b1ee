// A session's passive rows as blocks of the cluster's pool, through the door of the node that decodes: pages
// are written in the background and read in batches, by shared memory where a holder is on the same host. One
// whose holders are all gone is missing.
#pragma once

#include <weft/actors/block_pool.hpp>
#include <weft/actors/staging.hpp>
#include <weft/base/error.hpp>
#include <weft/base/time.hpp>
#include <weft/engine/adaptive/passive_store.hpp>

#include <cstdint>
#include <memory>
#include <span>

namespace weft::actors {

class node_passive_store final : public engine::passive_store {
 public:
  struct options {
    std::uint64_t session = 0;  // differs between the sessions of a cluster
    std::uint32_t replicas = 1;
    duration patience{};  // a page that has not come by then counts as missing
  };
  node_passive_store(std::shared_ptr<block_pool> blocks, std::shared_ptr<staging> room, const options& how);
  // Returns when nothing is under way any more: at most `patience` later.
  ~node_passive_store() override;

  // Waits for staging room while pages are on their way; until a page is written it is served from here.
  result<void> put(std::uint64_t page, std::span<const std::byte> bytes) override;
  void begin(std::span<const std::uint64_t> pages) override;
  bool arrived() override;
  std::span<const engine::page_bytes> wait() override;

  // Returns when all pages have been written, or have failed to be: how many failed so far.
  std::uint64_t flush();

 private:
  struct state;
  std::shared_ptr<state> state_;
};

}  // namespace weft::actors
