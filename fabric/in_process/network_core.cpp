#include "in_process/network_core.hpp"

#include <weft/fabric/wire/node_address.hpp>

#include <algorithm>
#include <cstring>

namespace weft::fabric {

namespace {

error left_error(const char* what) {
  return {errc::unreachable, what};
}

std::span<std::byte> destination_of(const node_state& node, const simulated_fetch& fetch) {
  return fetch.into ? fetch.into->bytes() : node.arena->bytes();
}

bool within(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

}  // namespace

// -- events ---------------------------------------------------------------------------------------

node_state& in_process_network::core::add_node(std::size_t arena_bytes) {
  const auto number = static_cast<node_number>(nodes.size());
  const id128 nonce{random(), random()};
  auto& node = *nodes.emplace_back(std::make_unique<node_state>(number, nonce, arena_bytes));
  // No host: the nonce alone finds the node.
  node_address reachable_here;
  reachable_here.nonce = nonce;
  reachable_here.arena_bytes = arena_bytes;
  node.address = encode(reachable_here).value();
  return node;
}

node_state* in_process_network::core::find(const std::string& address) {
  const auto at =
      std::find_if(nodes.begin(), nodes.end(), [&](const auto& n) { return n->address == address; });
  return at == nodes.end() ? nullptr : at->get();
}

bool in_process_network::core::run_next(time_point until) {
  auto event = events.take(until);
  if (!event) return false;
  run(std::move(*event));
  return true;
}

void in_process_network::core::run(network_event event) {
  if (event.from != no_node && partitioned(event.from, event.at)) {
    held[std::minmax(event.from, event.at)].push_back(std::move(event));
    return;
  }
  if (event.at != no_node) {
    auto& node = *nodes[event.at];
    if (!node.alive) return;
    if (node.frozen) {
      node.waiting_for_thaw.push_back(std::move(event));
      return;
    }
  }
  event.what();
}

duration in_process_network::core::latency() {
  const auto span = std::max<duration::rep>((options.latency_max - options.latency_min).count(), 0);
  return options.latency_min +
         duration{static_cast<duration::rep>(random() % (static_cast<std::uint64_t>(span) + 1))};
}

void in_process_network::core::local(node_state& at, duration delay, std::function<void()> what) {
  events.add(delay, {.at = at.number, .what = std::move(what)});
}

void in_process_network::core::call(node_state& at, std::function<void()> what) {
  events.add(duration{0}, {.at = at.number, .is_call = true, .what = std::move(what)});
}

void in_process_network::core::cross(const node_state& from, node_state& to, duration delay,
                                     std::function<void()> what) {
  events.add(delay, {.from = from.number, .at = to.number, .what = std::move(what)});
}

void in_process_network::core::kill(node_state& node, bool ends_callbacks) {
  if (!node.alive) return;
  if (ends_callbacks) {
    // A frozen node's calls end as well.
    for (auto& event : std::exchange(node.waiting_for_thaw, {}))
      if (event.is_call) event.what();
    for (auto calls = events.take_calls(node.number); !calls.empty(); calls = events.take_calls(node.number))
      for (auto& event : calls)
        event.what();
    const error closes{errc::cancelled, "the transport closes"};
    while (!node.connecting.empty())
      finish_connect(node, node.connecting.begin()->first, tl::unexpected{closes});
    while (!node.fetches.empty())
      end_fetch(node, node.fetches.begin()->first, closes);
  }
  node.alive = false;
  node.waiting_for_thaw.clear();
  for (const auto& [own_side, link] : node.links) {
    auto& other = *nodes[link.other];
    cross(node, other, latency(),
          [this, &other, peer = link.other_side] { lose_link(other, peer, left_error("the peer is gone")); });
  }
}

void in_process_network::core::thaw(node_state& node) {
  node.frozen = false;
  for (auto& event : std::exchange(node.waiting_for_thaw, {}))
    events.add(duration{0}, std::move(event));
}

void in_process_network::core::heal(node_number a, node_number b) {
  const auto pair = std::pair{std::min(a, b), std::max(a, b)};
  partitions.erase(pair);
  auto waiting = held.extract(pair);
  if (waiting.empty()) return;
  for (auto& event : waiting.mapped())
    events.add(duration{0}, std::move(event));
}

// -- connections ----------------------------------------------------------------------------------

void in_process_network::core::connect(node_state& node, const std::string& address, duration timeout,
                                       connect_callback done) {
  auto parsed = parse_node_address(std::as_bytes(std::span{address.data(), address.size()}));
  if (!parsed) return done(tl::unexpected{parsed.error()});
  auto* other = find(address);
  if (other == nullptr) return done(fail(errc::unreachable, "no node of this network has the address"));
  for (const auto& [peer, link] : node.links)
    if (link.other == other->number) return done(peer);
  const auto ours = peer_id{++node.last_peer};
  if (other == &node) {
    add_link(node, ours, {node.number, ours, {}});
    return done(ours);
  }

  const auto attempt = ++node.last_attempt;
  node.connecting.emplace(attempt, std::move(done));
  local(node, timeout, [this, &node, attempt] {
    finish_connect(node, attempt, fail(errc::deadline_exceeded, "no connection in time"));
  });
  if (!other->alive) {
    cross(*other, node, latency(), [this, &node, attempt] {
      finish_connect(node, attempt, fail(errc::unreachable, "nobody listens there"));
    });
    return;
  }
  cross(node, *other, latency(), [this, &node, other, attempt, ours] {
    const auto theirs = peer_id{++other->last_peer};
    const auto answer_after = latency();
    // What is sent at once comes after the answer.
    add_link(*other, theirs, {node.number, ours, events.now() + answer_after});
    cross(*other, node, answer_after, [this, &node, other, attempt, ours, theirs] {
      if (!node.connecting.contains(attempt))
        return cross(node, *other, latency(), [this, other, theirs] {
          lose_link(*other, theirs, left_error("the peer gave the connection up"));
        });
      add_link(node, ours, {other->number, theirs, {}});
      finish_connect(node, attempt, ours);
    });
  });
}

void in_process_network::core::finish_connect(node_state& node, std::uint64_t attempt,
                                              result<peer_id> outcome) {
  auto waiting = node.connecting.extract(attempt);
  if (!waiting.empty()) waiting.mapped()(std::move(outcome));
}

void in_process_network::core::add_link(node_state& node, peer_id peer, const simulated_link& link) {
  node.links.emplace(peer, link);
  node.statistics.peer_up({.peer = peer, .transport = "in_process", .way = options.way});
}

void in_process_network::core::disconnect(node_state& node, peer_id peer) {
  end_fetches_of(node, peer, {errc::cancelled, "the peer was disconnected"});
  node.statistics.peer_left(peer);
  const auto gone = node.links.extract(peer);
  if (gone.empty() || gone.mapped().other == node.number) return;
  auto& other = *nodes[gone.mapped().other];
  cross(node, other, latency(), [this, &other, theirs = gone.mapped().other_side] {
    lose_link(other, theirs, left_error("the peer disconnected"));
  });
}

void in_process_network::core::lose_link(node_state& node, peer_id peer, const error& why) {
  if (node.links.erase(peer) == 0) return;
  end_fetches_of(node, peer, why);
  node.statistics.peer_down(peer);
  node.handlers.peer_down(peer, why);
}

// -- fetches --------------------------------------------------------------------------------------

void in_process_network::core::fetch(node_state& node, std::uint64_t operation, simulated_fetch fetch,
                                     duration timeout) {
  fetch.results.resize(fetch.ranges.size());
  fetch.missing_bytes.resize(fetch.ranges.size());
  auto& added = node.fetches.emplace(operation, std::move(fetch)).first->second;
  const auto link = node.links.find(added.peer);
  if (link == node.links.end())
    return end_fetch(node, operation, left_error("no connection to the peer; connect again"));
  const auto& owner = *nodes[link->second.other];
  if (added.landing && (!added.into || !added.into->is_of(node)))
    return end_fetch(node, operation, {errc::invalid_argument, "no memory that this transport registered"});
  const auto there = owner.arena->bytes().size();
  const auto here = destination_of(node, added).size();
  for (std::size_t i = 0; i < added.ranges.size(); ++i) {
    auto& range = added.ranges[i];
    const bool good = within(range.remote_offset, range.length_bytes, there) &&
                      (added.in_place || within(range.local_offset, range.length_bytes, here));
    if (!good) {
      added.results[i] = fail(errc::invalid_argument, "a range outside the arena");
      range = {};
    }
    added.missing_bytes[i] = range.length_bytes;
    added.missing_total += range.length_bytes;
  }
  if (added.in_place) return view(node, operation, owner);
  if (added.landing && (options.way == path::push || maps(node, owner))) {
    const error cannot{errc::unsupported, "the peer's bytes do not come by gets; view them or fetch them"};
    return conclude(node, operation, &cannot);
  }
  if (added.missing_total == 0) return conclude(node, operation, nullptr);
  local(node, timeout, [this, &node, operation] {
    end_fetch(node, operation, {errc::deadline_exceeded, "the fetch did not end in time"});
  });
  start_pieces(node, operation);
}

bool in_process_network::core::maps(const node_state& node, const node_state& owner) const {
  return &owner == &node || (options.way == path::get && options.maps_arenas);
}

// A mapping neither waits for its owner nor notices that the network is cut.
void in_process_network::core::view(node_state& node, std::uint64_t operation, const node_state& owner) {
  auto& looking = node.fetches.at(operation);
  const error cannot{errc::unsupported, "the peer's memory cannot be read in place; fetch a copy of it"};
  if (!maps(node, owner)) return conclude(node, operation, &cannot);
  looking.views.resize(looking.ranges.size());
  for (std::size_t i = 0; i < looking.ranges.size(); ++i) {
    const auto& range = looking.ranges[i];
    if (looking.results[i])
      looking.views[i] = {owner.arena, owner.arena->bytes().subspan(range.remote_offset, range.length_bytes)};
    looking.missing_bytes[i] = 0;
  }
  looking.bytes_done = std::exchange(looking.missing_total, 0);
  conclude(node, operation, nullptr);
}

void in_process_network::core::start_pieces(node_state& node, std::uint64_t operation) {
  auto& owner = *nodes[node.links.at(node.fetches.at(operation).peer).other];
  if (options.way == path::get) return send_pieces(node, owner, operation);
  cross(node, owner, latency(), [this, &node, &owner, operation] { send_pieces(node, owner, operation); });
}

void in_process_network::core::send_pieces(node_state& node, node_state& owner, std::uint64_t operation) {
  const auto at = node.fetches.find(operation);
  if (at == node.fetches.end()) return;
  std::uint64_t sent = 0;
  for (std::size_t i = 0; i < at->second.ranges.size(); ++i) {
    const auto length = at->second.ranges[i].length_bytes;
    for (std::uint64_t offset = 0; offset < length;) {
      const auto bytes = std::min<std::uint64_t>(options.piece_bytes, length - offset);
      sent += bytes;
      const auto on_the_wire = duration{static_cast<duration::rep>(
          1e9 * static_cast<double>(sent) / static_cast<double>(options.bytes_per_second))};
      cross(owner, node, on_the_wire + latency(), [this, &node, &owner, operation, i, offset, bytes] {
        take_piece(node, owner, operation, i, offset, bytes);
      });
      offset += bytes;
    }
  }
}

void in_process_network::core::take_piece(node_state& node, const node_state& owner, std::uint64_t operation,
                                          std::size_t range, std::uint64_t offset, std::uint64_t bytes) {
  const auto at = node.fetches.find(operation);
  if (at == node.fetches.end() || !owner.alive) return;
  auto& fetch = at->second;
  const auto& where = fetch.ranges[range];
  std::memmove(destination_of(node, fetch).data() + where.local_offset + offset,
               owner.arena->bytes().data() + where.remote_offset + offset, bytes);
  fetch.missing_bytes[range] -= bytes;
  fetch.missing_total -= bytes;
  fetch.bytes_done += bytes;
  if (options.way == path::push) nodes[owner.number]->statistics.pushed(bytes);
  if (fetch.missing_total == 0) conclude(node, operation, nullptr);
}

void in_process_network::core::end_fetch(node_state& node, std::uint64_t operation, const error& why) {
  if (node.fetches.contains(operation)) conclude(node, operation, &why);
}

void in_process_network::core::conclude(node_state& node, std::uint64_t operation, const error* why) {
  auto fetch = std::move(node.fetches.extract(operation).mapped());
  fetch.into.reset();  // before the callback: nothing is written any more
  fetch_report report;
  report.bytes = fetch.bytes_done;
  for (std::size_t i = 0; i < fetch.results.size(); ++i) {
    const bool unfinished = fetch.missing_bytes[i] > 0 || (why != nullptr && fetch.missing_total == 0);
    if (why != nullptr && unfinished && fetch.results[i]) fetch.results[i] = tl::unexpected{*why};
    if (report.outcome && !fetch.results[i]) report.outcome = fetch.results[i];
  }
  if (why != nullptr) report.outcome = tl::unexpected{*why};
  report.ranges = std::move(fetch.results);
  report.views = std::move(fetch.views);
  if (fetch.in_place) {
    node.statistics.viewed(report.bytes);
    return fetch.done ? fetch.done(std::move(report)) : void();
  }
  const bool is_refused = why != nullptr && why->code == errc::unsupported;
  if (!is_refused)
    node.statistics.fetched(fetch.peer, report.bytes, events.now() - fetch.started,
                            report.outcome.has_value());
  if (fetch.done) fetch.done(std::move(report));
}

void in_process_network::core::end_fetches_of(node_state& node, peer_id peer, const error& why) {
  std::vector<std::uint64_t> ending;
  for (const auto& [operation, fetch] : node.fetches)
    if (fetch.peer == peer) ending.push_back(operation);
  for (const auto operation : ending)
    end_fetch(node, operation, why);
}

// -- messages -------------------------------------------------------------------------------------

void in_process_network::core::send(node_state& node, peer_id to, std::uint16_t channel,
                                    std::vector<std::byte> payload, send_callback done) {
  const auto refuse = [&](error why) {
    if (done) done(tl::unexpected{std::move(why)});
  };
  if (payload.size() > max_message_bytes)
    return refuse({errc::invalid_argument, "a message of " + std::to_string(payload.size()) +
                                               " bytes, at most " + std::to_string(max_message_bytes) +
                                               " go"});
  const auto at = node.links.find(to);
  if (at == node.links.end()) return refuse(left_error("no connection to the peer; connect again"));
  auto& link = at->second;
  auto& other = *nodes[link.other];
  node.statistics.message_out();
  // In order, whatever the delays.
  link.last_arrival = std::max(link.last_arrival, events.now() + latency());
  cross(node, other, link.last_arrival - events.now(),
        [&other, from = link.other_side, channel, bytes = std::move(payload)] {
          if (!other.links.contains(from)) return;
          other.statistics.message_in();
          other.handlers.message(from, channel, bytes);
        });
  if (done) done({});
}

}  // namespace weft::fabric
