#include <weft/actors/peer_links.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <chrono>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto connect_timeout = std::chrono::seconds{2};
constexpr unsigned uses_between_looks = 64;  // the transport may choose another way meanwhile

std::string_view name_of(fabric::path way) {
  return way == fabric::path::get ? "get" : "push";
}

void tell_all(std::vector<peer_links::reached>&& waiting, const result<fabric::peer_id>& peer) {
  for (auto& done : waiting)
    done(peer);
}

}  // namespace

std::shared_ptr<peer_links> peer_links::make(fabric::transport& transport, lost on_lost) {
  std::shared_ptr<peer_links> made{new peer_links(transport, std::move(on_lost))};
  transport.on_peer_down([links = std::weak_ptr{made}](fabric::peer_id peer, const error&) {
    const auto alive = links.lock();
    if (!alive) return;
    alive->forget(peer);
    alive->on_lost_(peer);
  });
  return made;
}

void peer_links::reach(const id128& node, reached done) {
  std::unique_lock lock{mutex_};
  const auto found = links_.find(node);
  if (found == links_.end()) {
    lock.unlock();
    return done(fail(errc::unreachable, "node " + to_hex(node) + " is not in the view"));
  }
  auto& to = found->second;
  if (to.peer) {
    const auto peer = *to.peer;
    lock.unlock();
    return done(peer);
  }
  to.waiting.push_back(std::move(done));
  if (std::exchange(to.connecting, true)) return;
  const auto incarnation = to.incarnation;
  const auto address = to.address;
  lock.unlock();
  connect(node, incarnation, address);
}

void peer_links::connect(const id128& node, std::uint64_t incarnation, const std::string& address) {
  transport_.connect(address, connect_timeout,
                     [links = weak_from_this(), node, incarnation](const result<fabric::peer_id>& peer) {
                       if (const auto alive = links.lock()) alive->connected(node, incarnation, peer);
                     });
}

void peer_links::connected(const id128& node, std::uint64_t incarnation,
                           const result<fabric::peer_id>& peer) {
  std::vector<reached> waiting;
  {
    const std::lock_guard lock{mutex_};
    const auto found = links_.find(node);
    if (found == links_.end() || found->second.incarnation != incarnation) {
      if (peer) transport_.disconnect(*peer);
      return;
    }
    found->second.connecting = false;
    if (peer) found->second.peer = *peer;
    waiting = std::exchange(found->second.waiting, {});
  }
  tell_all(std::move(waiting), peer);
}

void peer_links::forget(fabric::peer_id peer) {
  const std::lock_guard lock{mutex_};
  for (auto& [node, to] : links_) {
    if (to.peer != peer) continue;
    to.peer.reset();
    to.known = {};
  }
}

void peer_links::adopt(const cluster_ptr& now) {
  std::vector<reached> waiting;
  std::vector<fabric::peer_id> dropped;
  {
    const std::lock_guard lock{mutex_};
    if (now_ && now->view.epoch < now_->view.epoch) return;  // several bring it, each in its time
    now_ = now;
    for (auto it = links_.begin(); it != links_.end();) {
      const auto* member = now->find(it->first);
      if (member && member->ref.incarnation == it->second.incarnation) {
        ++it;
        continue;
      }
      if (it->second.peer) dropped.push_back(*it->second.peer);
      waiting.insert(waiting.end(), std::make_move_iterator(it->second.waiting.begin()),
                     std::make_move_iterator(it->second.waiting.end()));
      it = links_.erase(it);
    }
    for (const auto& member : now->view.members) {
      if (member.ref.node == now->self.node) continue;
      auto& entry = links_[member.ref.node];
      entry.incarnation = member.ref.incarnation;
      entry.address = member.fabric_address;
    }
  }
  for (const auto peer : dropped) {
    transport_.disconnect(peer);
    on_lost_(peer);
  }
  tell_all(std::move(waiting), fail(errc::unreachable, "the node has left the cluster"));
}

peer_links::way peer_links::way_to(const id128& node) {
  const std::lock_guard lock{mutex_};
  const auto found = links_.find(node);
  if (found == links_.end() || !found->second.peer) return {};
  auto& to = found->second;
  if (to.uses_of_known++ % uses_between_looks != 0 && !to.known.transport.empty()) return to.known;
  for (const auto& status : transport_.peers()) {
    if (status.peer == *to.peer) to.known = {status.transport, std::string{name_of(status.way)}};
  }
  return to.known;
}

fabric_report peer_links::report() const {
  fabric_report all{.peers = {},
                    .counters = transport_.counters(),
                    .moves_cuda_memory = fabric::moves_cuda_memory(transport_)};
  const std::lock_guard lock{mutex_};
  for (const auto& status : transport_.peers()) {
    if (!status.alive || !now_) continue;
    for (const auto& [node, to] : links_) {
      if (to.peer != status.peer) continue;
      const bool used = status.fetch_nanoseconds != 0;
      all.peers.push_back({now_->name_of(node), status.transport, std::string{name_of(status.way)},
                           used ? status.bytes_fetched : status.probed_bytes,
                           used ? status.fetch_nanoseconds : status.probe_nanoseconds});
    }
  }
  return all;
}

}  // namespace weft::actors
