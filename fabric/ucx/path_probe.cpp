// How fast each way to a peer really is.
#include "ucx/fetches.hpp"

#include <algorithm>
#include <chrono>

namespace weft::fabric {

namespace {

constexpr unsigned fetches_of_a_method = 4;  // the first finds pages that nobody has touched
constexpr auto probe_timeout = std::chrono::milliseconds{100};

// Its operations are told from those of callers, which count up from 1.
constexpr std::uint64_t probe_id_bit = std::uint64_t{1} << 63;

// One-sided reads need nobody on the other side, also where it is frozen: pushing must be clearly faster.
constexpr std::uint64_t push_must_be_faster = 2;

}  // namespace

void fetches::probe(connection& peer) {
  if (!peer.endpoint) return;  // this node itself
  path_probe fresh;
  if (!peer.view.empty()) {
    fresh.methods = {fetch_method::mapped};  // the memory itself: nothing is faster
  } else if (peer.way == path::get) {
    fresh.methods = {fetch_method::pushed, fetch_method::gets};
  } else {
    fresh.methods = {fetch_method::pushed};
  }
  probed_bytes_.resize(probe_area_bytes);
  probes_.insert_or_assign(peer.id, std::move(fresh));
  probe_on(peer);
}

void fetches::probe_on(connection& peer) {
  const auto& probe = probes_.at(peer.id);
  const auto begun = std::chrono::steady_clock::now();
  auto operation = stock_.take();
  operation->id = operation_id{probe_id_bit | ++last_probe_};
  operation->peer = peer.id;
  operation->ranges = {
      {.remote_offset = peer.address.arena_bytes, .length_bytes = probe_area_bytes, .local_offset = 0}};
  operation->probing = true;
  operation->started = begun;
  operation->deadline = begun + probe_timeout;
  operation->done = [this, from = peer.id, begun](const fetch_report& report) {
    probed(from, report, std::chrono::steady_clock::now() - begun);
  };
  start_by(probe.methods.back(), enter(std::move(operation)), peer);
}

void fetches::probed(peer_id from, const fetch_report& report, duration took) {
  const auto at = probes_.find(from);
  if (at == probes_.end()) return;
  auto* peer = peers_.find(from);
  auto& probe = at->second;
  // A peer that goes, or is too busy to be measured, keeps the path that it has.
  if (!report.outcome || peer == nullptr || peer->broken) {
    if (peer != nullptr && probe.best_nanoseconds != 0) settle(*peer, probe);
    probes_.erase(at);
    return;
  }
  const auto nanoseconds = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(took.count()));
  probe.nanoseconds = probe.fetches == 0 ? nanoseconds : std::min(probe.nanoseconds, nanoseconds);
  if (++probe.fetches < fetches_of_a_method) return probe_on(*peer);
  const auto handicap = probe.best == fetch_method::pushed ? push_must_be_faster : 1;
  if (probe.best_nanoseconds == 0 || probe.nanoseconds < handicap * probe.best_nanoseconds) {
    probe.best = probe.methods.back();
    probe.best_nanoseconds = probe.nanoseconds;
  }
  probe.methods.pop_back();
  probe.fetches = 0;
  if (!probe.methods.empty()) return probe_on(*peer);
  settle(*peer, probe);
  probes_.erase(from);
}

void fetches::settle(connection& peer, const path_probe& probe) {
  peer.way = probe.best == fetch_method::pushed ? path::push : path::get;
  statistics_.probed(peer.id, peer.way, probe_area_bytes, probe.best_nanoseconds);
}

}  // namespace weft::fabric
