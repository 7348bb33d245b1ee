// Rows that are not in the decode cache, as blocks in a cluster's pool: each page is put and fetched through
// the gateway, and lives on as many nodes as the cluster keeps copies. One whose holders are all gone is
// missing.
#pragma once

#include <weft/client/client.hpp>
#include <weft/engine/adaptive/passive_store.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace weft::launcher::study {

class pool_passive_store final : public engine::passive_store {
 public:
  // `session` must differ between sessions of a cluster. A page that has not come when `patience` is over
  // counts as missing. `cluster` must outlive this.
  pool_passive_store(client::connection& cluster, std::uint64_t session, std::chrono::milliseconds patience);
  ~pool_passive_store() override;

  // Put in the background; until then the page is served from memory.
  result<void> put(std::uint64_t page, std::span<const std::byte> bytes) override;
  void begin(std::span<const std::uint64_t> pages) override;
  bool arrived() override;
  std::span<const engine::page_bytes> wait() override;

  // Returns when all pages have been put, or have failed to be: how many failed.
  std::uint64_t flush();

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::launcher::study
