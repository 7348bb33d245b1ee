// Pairs of processes that are connected by UCX.
#pragma once

#include <weft/fabric/ucx_transport.hpp>

#include "peer_process.hpp"
#include "transport_pair.hpp"

#include <chrono>
#include <memory>
#include <string>

namespace weft::fabric::testing {

class ucx_pair : public transport_pair {
 public:
  static constexpr std::size_t large_bytes = std::size_t{64} << 20;
  static constexpr std::size_t arena_bytes = large_bytes + (std::size_t{16} << 20);

  explicit ucx_pair(const std::string& transports, bool map_arenas = true)
      : peer_(transports, arena_bytes, map_arenas), one_sided_(transports == "shm"), maps_(map_arenas) {
    ucx_options options;
    options.transports = transports;
    options.arena_bytes = arena_bytes;
    options.map_peer_arenas = map_arenas;
    auto made = make_ucx_transport(options);
    REQUIRE_MESSAGE(made.has_value(), (made ? "" : to_string(made.error())));
    here_ = std::move(*made);
  }

  // What the transport still calls back needs the rest of the pair.
  ~ucx_pair() override { here_.reset(); }

  transport& here() override { return *here_; }
  const std::string& peer_address() const override { return peer_.address(); }
  void kill_peer() override { peer_.kill(); }
  void freeze_peer() override { peer_.freeze(); }
  void thaw_peer() override { peer_.thaw(); }
  bool frozen_owner_can_be_read() const override { return one_sided_; }
  bool views_peers() const override { return one_sided_ && maps_; }
  bool lands_from_peers() const override { return one_sided_ && !maps_; }
  void close_here() { here_.reset(); }

  bool wait_for(const std::function<bool()>& condition) override {
    std::unique_lock lock{mutex_};
    return changed_.wait_for(lock, std::chrono::seconds{60}, condition);
  }

 private:
  peer_process peer_;
  bool one_sided_;
  bool maps_;
  std::unique_ptr<transport> here_;
};

class tcp_pair : public ucx_pair {
 public:
  tcp_pair() : ucx_pair("tcp") {}
};

class shared_memory_pair : public ucx_pair {
 public:
  shared_memory_pair() : ucx_pair("shm") {}
};

class shared_memory_gets_pair : public ucx_pair {
 public:
  shared_memory_gets_pair() : ucx_pair("shm", false) {}
};

}  // namespace weft::fabric::testing
