// How node actors of different processes find each other: CAF's middleman, or a simulation's network.
#pragma once

#include <weft/actors/interfaces.hpp>
#include <weft/actors/node_config.hpp>
#include <weft/base/error.hpp>

#include <caf/actor_system.hpp>

#include <functional>
#include <memory>
#include <string>

namespace weft::actors {

class remoting {
 public:
  virtual ~remoting() = default;

  // Makes `node` reachable on that address only; port 0 is chosen by the system. Returns the port.
  virtual result<std::uint16_t> publish(const node_actor& node, const std::string& host,
                                        std::uint16_t port) = 0;

  // Calls back once, from any thread. `unreachable` when nobody answers there, `invalid_argument` when the
  // node there wants nothing to do with this one.
  virtual void connect(const std::string& host, std::uint16_t port,
                       std::function<void(result<node_actor>)> done) = 0;
};

// Over TLS with mutual certificates where `tls` names files; else plain, and then on loopback addresses only
// (`invalid_argument` for another host).
std::unique_ptr<remoting> make_middleman_remoting(caf::actor_system& system, const tls_files& tls);

}  // namespace weft::actors
