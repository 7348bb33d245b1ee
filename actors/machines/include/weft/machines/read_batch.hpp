// The reader's side of a batch of keys: locate -> lease -> fetch -> verify, the next replica on any failure,
// never beyond the deadline. Where the reader remembers a block to be, it is fetched without asking first;
// what comes proves itself or is asked for after all.
//
// The owner carries out the actions and reports each call back exactly once, by its number, with the matching
// `on_...`; a report may come late, also after the deadline. Every key gets exactly one `read_done`, every
// granted lease exactly one `release_lease`. Results stand before all other actions of an answer, so a call
// may be reported while the actions behind it are still to be carried out. The machine is over when
// `finished()`: all keys done and no call unreported.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/location_memory.hpp>
#include <weft/machines/node_ref.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <variant>
#include <vector>

namespace weft::machines {

struct read_options {
  duration deadline = std::chrono::milliseconds(1000);  // from the start
  std::uint64_t seed = 0;        // spreads the load over replicas; the same seed gives the same choice
  std::optional<node_ref> self;  // preferred where it is a holder
  duration relocate_delay = std::chrono::milliseconds(50);  // before asking a rebuilding directory again
  unsigned locate_attempts = 3;
  // Where the directory does not answer, the nodes are asked that writers with the same `storage_nodes` and
  // `storage_shares` choose first, `guesses` of them.
  std::vector<node_ref> storage_nodes{};
  std::vector<std::uint64_t> storage_shares{};  // by node, e.g. its capacity; empty: equal
  unsigned guesses = 2;
  // What asking a node costs, in one unit for all (distance, load, doubt); not listed: nothing. The cheaper
  // holder is asked first, among equals the seed decides.
  std::vector<std::pair<node_ref, std::uint64_t>> costs{};
  // By key: where it was found last, at a holder that is alive. Empty: nothing is remembered.
  std::vector<std::optional<block_place>> remembered{};
  std::size_t max_keys_per_lease = 16384;
  // So many of the nodes that writers choose first are likely holders: one of them is asked for a lease
  // before the directory is asked at all. 0: none is.
  unsigned first_guesses = 0;
};

// Key numbers index the batch.
struct locate_keys {  // the owner splits them by shard and merges the answers
  std::uint64_t call = 0;
  std::vector<std::uint32_t> keys;
  duration timeout{};
};
struct request_lease {
  std::uint64_t call = 0;
  node_ref holder;
  std::vector<std::uint32_t> keys;
  duration timeout{};
};
struct fetch_piece {
  std::uint32_t key = 0;
  std::uint64_t offset = 0;  // in the holder's arena
  std::uint64_t bytes = 0;
  std::uint64_t generation = 0;
};
struct fetch_pieces {
  std::uint64_t call = 0;
  node_ref holder;
  std::uint64_t lease = 0;  // under which they are read; 0: out of memory, without one
  std::vector<fetch_piece> pieces;
  duration timeout{};
};
struct cancel_fetch {  // a hint; the call is still reported
  std::uint64_t call = 0;
};
struct release_lease {
  node_ref holder;
  std::uint64_t lease = 0;
};
enum class read_outcome : std::uint8_t {
  ok,     // here and verified
  miss,   // nobody holds it
  error,  // somebody may hold it, but it could not be had within the deadline
};
struct read_done {
  std::uint32_t key = 0;
  read_outcome outcome = read_outcome::miss;
  errc why = errc::ok;  // of an error: the last failure
  node_ref holder;      // of ok
};
using read_action =
    std::variant<locate_keys, request_lease, fetch_pieces, cancel_fetch, release_lease, read_done>;

struct key_holders {
  std::vector<node_ref> holders;
  bool maybe = false;  // nobody is known, but the directory is being rebuilt or did not answer
};

struct leased_piece {  // by key of the request
  errc outcome = errc::not_found;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::uint64_t generation = 0;
};

class read_batch {
 public:
  read_batch(std::vector<id128> keys, read_options options);
  ~read_batch();
  read_batch(read_batch&&) noexcept;
  read_batch& operator=(read_batch&&) noexcept;

  std::vector<read_action> start(time_point now);

  // By key of the call, in its order. A failed call: every key {no holders, maybe}.
  std::vector<read_action> on_located(std::uint64_t call, std::vector<key_holders> answers, time_point now);

  std::vector<read_action> on_leased(std::uint64_t call, std::uint64_t lease,
                                     const std::vector<leased_piece>& pieces, time_point now);
  std::vector<read_action> on_lease_failed(std::uint64_t call, errc why, time_point now);

  // A piece's destination belongs to its call until the call is reported, also where the key is done or
  // fetched anew meanwhile. By piece of the call: `ok` only for bytes that were verified (header, key,
  // generation, checksums).
  std::vector<read_action> on_fetched(std::uint64_t call, const std::vector<errc>& pieces, time_point now);

  // That life is over: nothing more is asked of it and nothing awaited from it. Calls to it are still
  // reported.
  std::vector<read_action> on_node_down(const node_ref& node, time_point now);

  std::vector<read_action> tick(time_point now);
  std::optional<time_point> next_deadline() const;

  bool all_done() const;
  bool finished() const;
  std::span<const id128> keys() const;

 private:
  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::machines
