#include "ucx/fetches.hpp"

#include "ucx/status.hpp"

#include <algorithm>

namespace weft::fabric {

namespace {

bool within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

std::string describe(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return "range [" + std::to_string(offset) + ", +" + std::to_string(length) + ") of " +
         std::to_string(size) + " bytes";
}

// Nothing of it was begun.
bool is_refused(const fetch_report& report) {
  return !report.outcome && report.outcome.error().code == errc::unsupported && report.bytes == 0;
}

constexpr std::size_t spare_entries_max = 4096;

}  // namespace

fetches::fetches(const ucx_arena& arena, connections& peers, active_sender& sender,
                 node_statistics& statistics, std::uint32_t chunk_bytes)
    : arena_(arena), peers_(peers), sender_(sender), statistics_(statistics), chunk_bytes_(chunk_bytes) {}

// -- beginning ------------------------------------------------------------------------------------

fetch_operation& fetches::enter(operation_pointer operation) {
  auto& added = *operation;
  const auto id = number(added.id);
  if (spare_entries_.empty()) {
    operations_.emplace(id, std::move(operation));
    deadlines_.emplace(added.deadline, id);
  } else {
    auto entry = std::move(spare_entries_.back());
    auto deadline = std::move(spare_deadlines_.back());
    spare_entries_.pop_back();
    spare_deadlines_.pop_back();
    entry.key() = id;
    entry.mapped() = std::move(operation);
    deadline.value() = {added.deadline, id};
    operations_.insert(std::move(entry));
    deadlines_.insert(std::move(deadline));
  }
  added.results.resize(added.ranges.size());
  return added;
}

bool fetches::finish_at_once(operation_pointer& operation) {
  if (operation->into || operation->ended_by) return false;
  const auto peer = mapped_peers_.find(operation->peer);
  if (!peer) return false;
  auto& own = *operation;
  own.results.resize(own.ranges.size());
  refuse_bad_ranges(own, peer->view.size());
  if (own.in_place) {
    lay_out_views(own, *peer);
    while (!show_some(own)) {
    }
  } else {
    own.count_bytes();
    while (!copy_some(own, peer->view, arena_.bytes())) {
    }
  }
  deliver(std::move(operation));
  return true;
}

void fetches::met(connection& peer) {
  if (!peer.view.empty() && peer.mapping) mapped_peers_.add(peer.id, {peer.mapping, peer.view});
  probe(peer);
}

void fetches::start(operation_pointer operation) {
  auto& added = enter(std::move(operation));
  if (added.ended_by) return conclude(added);
  auto* peer = peer_of(added);
  if (peer == nullptr) {
    added.ended_by = error{errc::unreachable, "no connection to peer " +
                                                  std::to_string(static_cast<std::uint32_t>(added.peer)) +
                                                  "; connect again"};
    return conclude(added);
  }
  refuse_bad_ranges(added, peer->address.arena_bytes);
  if (added.in_place) return start_view(added, *peer);
  if (added.into) return start_landing(added, *peer);
  const auto one_sided = peer->view.empty() ? fetch_method::gets : fetch_method::mapped;
  start_by(peer->way == path::get ? one_sided : fetch_method::pushed, added, *peer);
}

void fetches::start_by(fetch_method method, fetch_operation& operation, connection& peer) {
  operation.method = method;
  switch (method) {
    case fetch_method::mapped:
      operation.count_bytes();
      return mapped_.push_back(operation.id);
    case fetch_method::gets:
      operation.range_pieces.resize(operation.ranges.size());
      if (operation.watcher)
        operation.done = shown_whole(std::move(operation.watcher), arena_.bytes(), operation.ranges,
                                     std::move(operation.done));
      return gets_.push_back(operation.id);
    case fetch_method::pushed:
      return start_pushed(operation, peer);
  }
}

std::span<const std::byte> fetches::source_of(const fetch_operation& operation, const connection& peer) {
  return operation.probing ? peer.region->view() : peer.view;
}

std::span<std::byte> fetches::destination_of(const fetch_operation& operation) {
  if (operation.probing) return probed_bytes_;
  return operation.into ? operation.into->bytes() : arena_.bytes();
}

void fetches::start_view(fetch_operation& operation, const connection& peer) {
  const bool own = !peer.endpoint;
  if (peer.view.empty() || (!own && !peer.mapping)) {
    operation.ended_by = error{
        errc::unsupported, "the peer's memory cannot be read in place from this process; fetch a copy of it"};
    return conclude(operation);
  }
  lay_out_views(operation, {peer.mapping, peer.view});
  mapped_.push_back(operation.id);
}

// By gets also where the probe found pushes faster: those would end in the arena.
void fetches::start_landing(fetch_operation& operation, connection& peer) {
  if (peer.one_sided && peer.view.empty()) return start_by(fetch_method::gets, operation, peer);
  operation.ended_by = error{errc::unsupported,
                             "the peer's bytes do not come by gets; view them or fetch them into the arena"};
  conclude(operation);
}

void fetches::refuse_bad_ranges(fetch_operation& operation, std::uint64_t peer_bytes) {
  const auto here = destination_of(operation).size();
  for (std::size_t i = 0; i < operation.ranges.size(); ++i) {
    auto& range = operation.ranges[i];
    if (!within(range.remote_offset, range.length_bytes, peer_bytes)) {
      operation.results[i] = fail(errc::invalid_argument,
                                  "remote " + describe(range.remote_offset, range.length_bytes, peer_bytes));
      range = {};
    } else if (!operation.in_place && !within(range.local_offset, range.length_bytes, here)) {
      operation.results[i] =
          fail(errc::invalid_argument, "local " + describe(range.local_offset, range.length_bytes, here));
      range = {};
    }
  }
}

fetch_operation* fetches::find(operation_id id) {
  const auto at = operations_.find(number(id));
  return at == operations_.end() ? nullptr : at->second.get();
}

// -- ending ---------------------------------------------------------------------------------------

void fetches::end(operation_id id, const error& why) {
  auto* operation = find(id);
  if (operation == nullptr || operation->ended_by) return;
  operation->ended_by = why;
  switch (operation->method) {
    case fetch_method::mapped:
      return conclude(*operation);
    case fetch_method::gets:
      return end_gets(*operation);
    case fetch_method::pushed:
      tell_cancelled(*operation);
      return conclude(*operation);
  }
}

void fetches::lost(connection& peer, const error& why) {
  mapped_peers_.remove(peer.id);
  std::vector<operation_id> ending;
  for (const auto& [id, operation] : operations_)
    if (operation->peer == peer.id) ending.push_back(operation->id);
  std::sort(ending.begin(), ending.end());
  peer.requests_waiting.clear();
  for (const auto id : ending)
    end(id, why);
}

void fetches::mark_unfinished(fetch_operation& operation, const error& why) const {
  for (std::size_t i = 0; i < operation.ranges.size(); ++i) {
    if (!operation.results[i] || operation.ranges[i].length_bytes == 0) continue;
    bool whole = false;
    switch (operation.method) {
      case fetch_method::mapped:
        whole = i < operation.range;
        break;
      case fetch_method::gets:
        whole = i < operation.range && operation.range_pieces[i] == 0;
        break;
      case fetch_method::pushed:
        whole = operation.sink.range_complete(i);
        break;
    }
    if (!whole) operation.results[i] = tl::unexpected{why};
  }
}

void fetches::conclude(fetch_operation& concluded) {
  auto entry = operations_.extract(number(concluded.id));
  auto operation = std::move(entry.mapped());
  auto deadline = deadlines_.extract(std::pair{operation->deadline, number(operation->id)});
  if (deadline && spare_entries_.size() < spare_entries_max) {
    spare_entries_.push_back(std::move(entry));
    spare_deadlines_.push_back(std::move(deadline));
  }
  if (operation->method == fetch_method::pushed && operation->requested) {
    if (auto* peer = peer_of(*operation)) {
      --peer->requests_in_flight;
      request_next(*peer);
    }
  }
  deliver(std::move(operation));
}

// Any thread.
void fetches::deliver(operation_pointer operation) {
  fetch_report report;
  report.bytes = operation->bytes_done;
  if (operation->ended_by) {
    mark_unfinished(*operation, *operation->ended_by);
    report.outcome = tl::unexpected{*operation->ended_by};
  } else {
    const auto bad = std::find_if(operation->results.begin(), operation->results.end(),
                                  [](const result<void>& r) { return !r.has_value(); });
    if (bad != operation->results.end()) report.outcome = tl::unexpected{bad->error()};
  }
  for (std::size_t i = 0; i < operation->views.size(); ++i)
    if (!operation->results[i]) operation->views[i] = {};
  report.views = std::move(operation->views);
  report.ranges = std::move(operation->results);
  if (operation->in_place) {
    statistics_.viewed(report.bytes);
  } else if (!operation->probing && !is_refused(report)) {
    statistics_.fetched(operation->peer, report.bytes, std::chrono::steady_clock::now() - operation->started,
                        report.outcome.has_value());
  }
  const auto done = std::move(operation->done);
  // Before the callback: what it shows to a watcher is over.
  stock_.give_back(std::move(operation));
  if (done) done(std::move(report));
}

void fetches::expire(time_point now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
    auto& operation = *operations_.at(deadlines_.begin()->second);
    if (operation.ended_by) {
      // The grace of gets in flight is over; without their connection UCX gives them back.
      deadlines_.erase(deadlines_.begin());
      if (auto* peer = peer_of(operation)) {
        peers_.break_off(*peer, {errc::unreachable, "one-sided reads hang"});
      }
      continue;
    }
    end(operation.id, {errc::deadline_exceeded, "fetch of " + std::to_string(operation.ranges.size()) +
                                                    " ranges: " + std::to_string(operation.bytes_done) +
                                                    " bytes came in time"});
  }
}

bool fetches::pump(time_point now) {
  now_ = now;
  expire(now);
  bool more = pump_mapped();
  more |= pump_gets();
  return more;
}

std::optional<time_point> fetches::next_deadline() const {
  if (deadlines_.empty()) return std::nullopt;
  return deadlines_.begin()->first;
}

}  // namespace weft::fabric
