// The writer's side of a batch of keys: every key goes to `replicas` storage nodes, chosen by weighted
// rendezvous hashing; where one refuses, dies or stays silent, the next in order takes its place.
//
// The owner carries out the actions and reports each call exactly once by its number; a report may come late.
// Every key gets exactly one `write_done`. Results stand before all other actions of an answer, so a call may
// be reported while the actions behind it are still to be carried out. The machine is over when `finished()`.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/node_ref.hpp>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <variant>
#include <vector>

namespace weft::machines {

struct write_options {
  duration deadline = std::chrono::seconds(10);  // from the start
  std::uint32_t replicas = 1;
  std::vector<node_ref> storage_nodes{};        // alive
  std::vector<std::uint64_t> storage_shares{};  // by node, e.g. its capacity; empty: equal
};

struct write_item {
  id128 key;
  std::uint64_t bytes = 0;
  id128 placed_by = {};  // stands where that key would; zero: its own
};

// Item numbers index the batch.
struct put_items {  // reserve, transfer, commit, announce on that node
  std::uint64_t call = 0;
  node_ref node;
  std::vector<std::uint32_t> items;
  duration timeout{};
};
enum class write_outcome : std::uint8_t {
  stored,    // on `replicas` nodes
  degraded,  // on fewer, at least one: no other node is alive, willing and in time. Warn
  failed,    // nowhere
};
struct write_done {
  std::uint32_t item = 0;
  write_outcome outcome = write_outcome::failed;
  std::vector<node_ref> holders;
  errc why = errc::ok;  // of degraded and failed: the last failure
};
using write_action = std::variant<put_items, write_done>;

class write_batch {
 public:
  write_batch(std::vector<write_item> items, write_options options);
  ~write_batch();
  write_batch(write_batch&&) noexcept;
  write_batch& operator=(write_batch&&) noexcept;

  std::vector<write_action> start(time_point now);

  // By item of the call: `ok` only when committed (or held already) and announced. A failed call: the error
  // for every item.
  std::vector<write_action> on_put(std::uint64_t call, const std::vector<errc>& items, time_point now);

  // That life is over: what it committed no longer counts for keys that are not done.
  std::vector<write_action> on_node_down(const node_ref& node, time_point now);

  std::vector<write_action> tick(time_point now);
  std::optional<time_point> next_deadline() const;

  bool all_done() const;
  bool finished() const;
  std::span<const write_item> items() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::machines
