// Pairs of the in-process network; the faulty one wraps this side without a fault.
#pragma once

#include <weft/fabric/faulty_transport.hpp>
#include <weft/fabric/in_process.hpp>

#include "peer_role.hpp"
#include "transport_pair.hpp"

#include <utility>

namespace weft::fabric::testing {

class in_process_pair : public transport_pair {
 public:
  static constexpr std::size_t large_bytes = std::size_t{4} << 20;
  static constexpr std::size_t arena_bytes = large_bytes + (std::size_t{16} << 20);

  explicit in_process_pair(path way, bool wrapped = false, fault_plan plan = {}, bool maps_arenas = true)
      : network_({.seed = 1, .way = way, .maps_arenas = maps_arenas}), way_(way), maps_(maps_arenas) {
    here_ = network_.add_node(arena_bytes);
    if (wrapped) {
      auto faulty = std::make_unique<faulty_transport>(
          std::move(here_),
          [this](duration delay, std::function<void()> what) { network_.schedule(delay, std::move(what)); },
          std::move(plan));
      faulty_ = faulty.get();
      here_ = std::move(faulty);
    }
    peer_ = network_.add_node(arena_bytes);
    address_ = peer_->address();
    play_peer(*peer_);
  }

  transport& here() override { return *here_; }
  const std::string& peer_address() const override { return address_; }
  void kill_peer() override { network_.kill(address_); }
  void freeze_peer() override { network_.freeze(address_); }
  void thaw_peer() override { network_.thaw(address_); }
  bool frozen_owner_can_be_read() const override { return way_ == path::get; }
  bool views_peers() const override { return way_ == path::get && maps_; }
  bool lands_from_peers() const override { return way_ == path::get && !maps_; }

  bool wait_for(const std::function<bool()>& condition) override {
    while (!holds(condition))
      if (!network_.step()) return holds(condition);
    return true;
  }

  void close_here() { here_.reset(); }
  in_process_network& network() { return network_; }
  faulty_transport& faulty() { return *faulty_; }

 private:
  bool holds(const std::function<bool()>& condition) {
    const std::lock_guard lock{mutex_};
    return condition();
  }

  in_process_network network_;
  path way_;
  bool maps_;
  std::unique_ptr<transport> here_;
  faulty_transport* faulty_ = nullptr;
  std::unique_ptr<transport> peer_;
  std::string address_;
};

class in_process_get_pair : public in_process_pair {
 public:
  in_process_get_pair() : in_process_pair(path::get) {}
};

class in_process_unmapped_pair : public in_process_pair {
 public:
  in_process_unmapped_pair() : in_process_pair(path::get, false, {}, false) {}
};

class in_process_push_pair : public in_process_pair {
 public:
  in_process_push_pair() : in_process_pair(path::push) {}
};

class faultless_pair : public in_process_pair {
 public:
  faultless_pair() : in_process_pair(path::push, true) {}
};

class faultless_unmapped_pair : public in_process_pair {
 public:
  faultless_unmapped_pair() : in_process_pair(path::get, true, {}, false) {}
};

}  // namespace weft::fabric::testing
