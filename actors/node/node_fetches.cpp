#include <weft/actors/device_landing.hpp>
#include <weft/actors/node_fetches.hpp>
#include <weft/fabric/fetch_watcher.hpp>

#include <algorithm>
#include <cstring>
#include <span>

namespace weft::actors {

namespace {

result<void> show(fabric::fetch_watcher* watcher, std::size_t number, std::span<const std::byte> bytes) {
  if (watcher == nullptr || bytes.empty()) return {};
  watcher->arrived(number, bytes);
  return watcher->complete(number);
}

constexpr std::uint64_t watched_piece_bytes = std::uint64_t{16} << 10;  // stays in the first cache

fetch_outcome failed(std::size_t ranges, const error& e) {
  fetch_outcome outcome;
  outcome.ranges.assign(ranges, tl::make_unexpected(e));
  outcome.fabric = e.code;
  return outcome;
}

errc code_of(const result<void>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

result<void> copy_range(std::span<std::byte> arena, const fabric::fetch_range& range, std::size_t number,
                        fabric::fetch_watcher* watcher) {
  const auto from = arena.subspan(range.remote_offset, range.length_bytes);
  const auto to = arena.subspan(range.local_offset, range.length_bytes);
  if (watcher == nullptr || range.length_bytes == 0) {
    std::memmove(to.data(), from.data(), range.length_bytes);
    return {};
  }
  for (std::uint64_t at = 0; at < range.length_bytes; at += watched_piece_bytes) {
    const auto bytes = std::min(watched_piece_bytes, range.length_bytes - at);
    std::memmove(to.data() + at, from.data() + at, bytes);
    watcher->arrived(number, to.subspan(at, bytes));
  }
  return watcher->complete(number);
}

// Blocks of this very node: no wire, one copy or none.
fetch_outcome read_locally(std::span<std::byte> arena, const fetch_order& order) {
  fetch_outcome outcome{.ranges = {},
                        .fabric = errc::ok,
                        .bytes = 0,
                        .transport = "local",
                        .path = order.in_place ? "view" : "copy",
                        .views = {}};
  if (order.in_place) outcome.views.resize(order.ranges.size());
  for (const auto& range : order.ranges) {
    const auto inside = [&](std::uint64_t offset) {
      return offset <= arena.size() && range.length_bytes <= arena.size() - offset;
    };
    if (!inside(range.remote_offset) || (!order.in_place && !inside(range.local_offset))) {
      outcome.ranges.emplace_back(fail(errc::invalid_argument, "a range outside the arena was asked for"));
      continue;
    }
    const auto number = outcome.ranges.size();
    if (order.in_place) {
      const auto there = arena.subspan(range.remote_offset, range.length_bytes);
      outcome.ranges.push_back(show(order.watcher.get(), number, there));
      if (outcome.ranges.back()) outcome.views[number] = {nullptr, there};
    } else {
      outcome.ranges.push_back(copy_range(arena, range, number, order.watcher.get()));
    }
    outcome.bytes += range.length_bytes;
  }
  return outcome;
}

// Those that arrived, by the device on which they are; the others stay what they are.
void prove(const fetch_order& order, std::span<std::byte> arena, std::vector<result<void>>& outcomes) {
  std::vector<engine::block_landing::arrived> blocks;
  std::vector<std::size_t> ranges;
  for (std::size_t i = 0; i < outcomes.size(); ++i) {
    if (!outcomes[i]) continue;
    const auto& range = order.ranges[i];
    blocks.push_back({arena.subspan(range.local_offset, range.length_bytes), order.expected[i]});
    ranges.push_back(i);
  }
  if (blocks.empty()) return;
  const auto proofs = order.landing->blocks->prove(blocks);
  for (std::size_t i = 0; i < ranges.size(); ++i)
    outcomes[ranges[i]] = proofs[i];
}

void land(fabric::transport& transport, fabric::peer_id peer, fetch_order order, peer_links::way way,
          node_fetches::executor proofs, node_fetches::fetched done) {
  auto ranges = order.ranges;
  const auto into = order.landing->memory;
  const auto timeout = order.timeout;
  transport.land(peer, std::move(ranges), into, timeout,
                 [arena = transport.arena(), order = std::move(order), way = std::move(way),
                  proofs = std::move(proofs), done = std::move(done)](fabric::fetch_report report) mutable {
                   fetch_outcome outcome{.ranges = std::move(report.ranges),
                                         .fabric = code_of(report.outcome),
                                         .bytes = report.bytes,
                                         .transport = way.transport,
                                         .path = "land",
                                         .views = {}};
                   if (outcome.bytes == 0) return done(std::move(outcome));
                   // What the device is given from now on finds the bytes. It is waited for, which the
                   // transport's thread must not.
                   proofs([arena, order = std::move(order), done = std::move(done),
                           outcome = std::move(outcome)]() mutable {
                     prove(order, arena, outcome.ranges);
                     done(std::move(outcome));
                   });
                 });
}

}  // namespace

void node_fetches::fetch(fetch_order order, fetched done) {
  if (order.node == self_ && order.landing)
    return done(failed(order.ranges.size(), {errc::unsupported, "this node's own blocks do not land"}));
  if (order.node == self_) {
    return copies_([arena = transport_.arena(), order = std::move(order), done = std::move(done)] {
      done(read_locally(arena, order));
    });
  }
  const auto node = order.node;
  links_->reach(node, [&transport = transport_, links = links_, proofs = copies_, order = std::move(order),
                       done = std::move(done)](const result<fabric::peer_id>& peer) mutable {
    if (!peer) return done(failed(order.ranges.size(), peer.error()));
    if (order.landing) {
      auto way = links->way_to(order.node);
      return land(transport, *peer, std::move(order), std::move(way), proofs, std::move(done));
    }
    const auto begin = order.in_place ? &fabric::transport::view : &fabric::transport::fetch;
    (transport.*begin)(
        *peer, std::move(order.ranges), order.timeout,
        [links, to = order.node, in_place = order.in_place,
         done = std::move(done)](fabric::fetch_report report) {
          auto way = links->way_to(to);
          done({.ranges = std::move(report.ranges),
                .fabric = code_of(report.outcome),
                .bytes = report.bytes,
                .transport = std::move(way.transport),
                .path = in_place ? "view" : std::move(way.path),
                .views = std::move(report.views)});
        },
        std::move(order.watcher));
  });
}

}  // namespace weft::actors
