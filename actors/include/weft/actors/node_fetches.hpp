// Bytes of other nodes' arenas into this one's, by node in place of by connection. Any thread.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/actors/peer_links.hpp>
#include <weft/base/id128.hpp>
#include <weft/fabric/transport.hpp>

#include <functional>
#include <memory>
#include <utility>

namespace weft::actors {

class node_fetches {
 public:
  using fetched = std::function<void(fetch_outcome)>;
  // Runs a function soon, on a thread that may be busy for a while.
  using executor = std::function<void(std::function<void()>)>;

  // The transport must outlive this object and what is under way.
  node_fetches(const id128& self, fabric::transport& transport, std::shared_ptr<peer_links> links)
      : self_(self), transport_(transport), links_(std::move(links)) {}

  // Where blocks of this very node are copied, and those that landed are proven. Before the first fetch.
  void copy_on(executor where) { copies_ = std::move(where); }

  // Calls back once, at once or later, on any thread; no byte of the destination is written any more then.
  void fetch(fetch_order order, fetched done);

 private:
  id128 self_;
  fabric::transport& transport_;
  std::shared_ptr<peer_links> links_;
  executor copies_;
};

}  // namespace weft::actors
