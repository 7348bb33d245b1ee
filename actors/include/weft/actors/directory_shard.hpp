// One shard of the directory, asked by any thread: by the other nodes' messages, by this node's pool, and by
// the directory actor, which brings it the view and the time.
#pragma once

#include <weft/actors/cluster.hpp>
#include <weft/actors/control.hpp>
#include <weft/actors/messages.hpp>
#include <weft/actors/strand.hpp>
#include <weft/base/error.hpp>
#include <weft/base/time.hpp>
#include <weft/machines/directory.hpp>

#include <functional>
#include <memory>
#include <vector>

namespace weft::actors {

// Callbacks come at once or later, on any thread, and must not block.
class directory_shard : public std::enable_shared_from_this<directory_shard> {
 public:
  directory_shard(duration liveness_timeout, clock_source clock)
      : liveness_timeout_(liveness_timeout), clock_(std::move(clock)) {}

  void locate(std::vector<id128> keys, std::function<void(machines::located)> done);
  void announce(announcement news, std::function<void(result<void>)> done);
  void withdraw(withdrawal gone, std::function<void(result<void>)> done);
  // Keys of all manifests, as many as fit a message.
  void documents(std::function<void(key_list)> done);

  // `sweep_needed`: the dead left entries behind.
  void adopt(const cluster_ptr& now, std::function<void()> sweep_needed);
  // Cleans up a part; `more`: there is more to do.
  void sweep(std::function<void(bool more)> done);

 private:
  void on_strand(std::function<void()> what);

  duration liveness_timeout_;
  clock_source clock_;
  strand strand_;
  machines::directory shard_;
  cluster_ptr now_;
};

}  // namespace weft::actors
