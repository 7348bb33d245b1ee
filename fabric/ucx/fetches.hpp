// The fetches of this node, by whichever way their bytes come. Used by whoever drives the progress loop, but
// for what says otherwise.
#pragma once

#include "node_statistics.hpp"
#include "ucx/active_sender.hpp"
#include "ucx/arena.hpp"
#include "ucx/connections.hpp"
#include "ucx/fetch_operation.hpp"
#include "ucx/mapped_peers.hpp"

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

namespace weft::fabric {

class fetches {
 public:
  fetches(const ucx_arena& arena, connections& peers, active_sender& sender, node_statistics& statistics,
          std::uint32_t chunk_bytes);

  // Operations come from here and return to it. Any thread.
  operation_stock& stock() { return stock_; }

  // Any thread: fetches and calls back before it returns, where that needs nothing but memory that is mapped.
  // False: `operation` is as it was.
  bool finish_at_once(std::unique_ptr<fetch_operation>& operation);

  void start(std::unique_ptr<fetch_operation> operation);
  void end(operation_id id, const error& why);

  void met(connection& peer);
  void lost(connection& peer, const error& why);

  void on_data(connection& from, std::span<const std::byte> header, std::span<const std::byte> payload);
  void on_refused(const connection& from, std::span<const std::byte> header);

  // Moves what can be moved and ends what is out of time. True if there is more to do at once.
  bool pump(time_point now);
  std::optional<time_point> next_deadline() const;
  bool none() const { return operations_.empty(); }

 private:
  using operation_pointer = std::unique_ptr<fetch_operation>;

  // A get that UCX has; reused.
  struct piece {
    fetches* owner = nullptr;
    operation_id operation{};
    std::uint32_t range = 0;
    std::uint64_t bytes = 0;
  };
  using piece_pointer = std::unique_ptr<piece>;

  // What is known of a peer's paths while they are measured.
  struct path_probe {
    std::vector<fetch_method> methods;  // to try; the last one is under way
    unsigned fetches = 0;               // of the method under way
    std::uint64_t nanoseconds = 0;      // the fastest of these
    fetch_method best = fetch_method::pushed;
    std::uint64_t best_nanoseconds = 0;  // 0: none is known yet
  };

  // Measures the paths to a peer that was just connected, each with a few small fetches beside all others,
  // and has the connection use the best.
  void probe(connection& peer);
  fetch_operation& enter(operation_pointer operation);
  void start_by(fetch_method method, fetch_operation& operation, connection& peer);
  void probe_on(connection& peer);
  void probed(peer_id from, const fetch_report& report, duration took);
  void settle(connection& peer, const path_probe& probe);
  static std::span<const std::byte> source_of(const fetch_operation& operation, const connection& peer);
  std::span<std::byte> destination_of(const fetch_operation& operation);

  void start_view(fetch_operation& operation, const connection& peer);
  void start_landing(fetch_operation& operation, connection& peer);
  void refuse_bad_ranges(fetch_operation& operation, std::uint64_t peer_bytes);
  fetch_operation* find(operation_id id);
  connection* peer_of(const fetch_operation& operation) { return peers_.find(operation.peer); }
  void conclude(fetch_operation& operation);
  void deliver(operation_pointer operation);
  void mark_unfinished(fetch_operation& operation, const error& why) const;

  void expire(time_point now);
  bool pump_mapped();

  bool pump_gets();
  void issue_gets(fetch_operation& operation, connection& peer, unsigned& left);
  bool issue_get(fetch_operation& operation, connection& peer);
  static void on_get(void* request, ucs_status_t status, void* argument);
  void finish_piece(piece_pointer done, ucs_status_t status);
  void end_gets(fetch_operation& operation);

  void start_pushed(fetch_operation& operation, connection& peer);
  void request(fetch_operation& operation, connection& peer);
  void request_next(connection& peer);
  void tell_cancelled(const fetch_operation& operation);

  const ucx_arena& arena_;
  connections& peers_;
  active_sender& sender_;
  node_statistics& statistics_;
  std::uint32_t chunk_bytes_;
  time_point now_;

  using operation_book = std::unordered_map<std::uint64_t, operation_pointer>;
  using deadline_book = std::set<std::pair<time_point, std::uint64_t>>;

  operation_stock stock_;
  mapped_peers mapped_peers_;
  operation_book operations_;
  deadline_book deadlines_;
  std::vector<operation_book::node_type> spare_entries_;  // of the books, to be used again
  std::vector<deadline_book::node_type> spare_deadlines_;
  std::map<peer_id, path_probe> probes_;
  std::vector<std::byte> probed_bytes_;  // where probes go
  std::uint64_t last_probe_ = 0;
  std::deque<operation_id> mapped_;  // with bytes to copy, in turn
  std::deque<operation_id> gets_;    // with gets to issue, in turn
  std::vector<piece_pointer> free_pieces_;
};

}  // namespace weft::fabric
