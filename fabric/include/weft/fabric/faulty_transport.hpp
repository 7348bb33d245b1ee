// A transport that goes wrong on plan: wraps any other and spoils what it is told to, so that what stands on
// a transport can be shown to survive it. Faults are what a network, a peer or a bit may do: every callback
// still comes exactly once and nothing is written after it. Messages keep their order but for those that are
// late, as over a connection that broke and was made anew.
#pragma once

#include <weft/base/time.hpp>
#include <weft/fabric/transport.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

namespace weft::fabric {

enum class fetch_fault : std::uint8_t {
  none,
  fail,       // `unreachable`, nothing read
  lose,       // reported as done, nothing arrived
  truncate,   // reported as done, the end of a range did not arrive
  flip_bit,   // reported as done, one bit of a range is wrong
  late,       // done, and the callback comes later
  stall,      // nothing until the deadline
  fail_late,  // everything arrived, reported as `unreachable`
};

enum class send_fault : std::uint8_t {
  none,
  fail,   // `unreachable`, not sent
  lose,   // reported as sent, never arrives
  twice,  // arrives twice
  late,   // reported as sent, arrives later, perhaps behind what was sent after it
};

struct fault_plan {
  std::uint64_t seed = 0;
  // A view is a fetch here, and so is a landing; what "did not arrive" of a view shows as zeros.
  // Of a thousand calls, by kind; drawn independently of each other in the order of the enumeration.
  std::map<fetch_fault, unsigned> fetches_per_mille = {};
  std::map<send_fault, unsigned> sends_per_mille = {};
  // The n-th call, counted from 0, whatever is drawn.
  std::map<std::uint64_t, fetch_fault> nth_fetch = {};
  std::map<std::uint64_t, send_fault> nth_send = {};
  duration late_max = std::chrono::milliseconds{5};
};

struct fault_counts {
  std::uint64_t fetches = 0;  // with a fault
  std::uint64_t sends = 0;
};

class faulty_transport final : public transport {
 public:
  // Runs a function on the thread of the inner transport's callbacks, so much later.
  using scheduler = std::function<void(duration, std::function<void()>)>;

  faulty_transport(std::unique_ptr<transport> inner, scheduler later, fault_plan plan);
  faulty_transport(const faulty_transport&) = delete;
  faulty_transport& operator=(const faulty_transport&) = delete;
  ~faulty_transport() override;

  // From now on; operations on their way keep what they drew.
  void change_plan(fault_plan plan);
  fault_counts faults() const;

  std::string address() const override;
  std::span<std::byte> arena() override;
  void connect(std::string address, duration timeout, connect_callback done) override;
  void disconnect(peer_id peer) override;
  operation_id fetch(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                     std::shared_ptr<fetch_watcher> watcher = nullptr) override;
  operation_id view(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                    std::shared_ptr<fetch_watcher> watcher = nullptr) override;
  result<std::shared_ptr<const registered_memory>> register_memory(std::span<std::byte> bytes,
                                                                   memory_kind kind) override;
  operation_id land(peer_id peer, std::vector<fetch_range> ranges,
                    std::shared_ptr<const registered_memory> into, duration timeout,
                    fetch_callback done) override;
  void cancel(operation_id operation) override;
  void send(peer_id peer, std::uint16_t channel, std::vector<std::byte> payload, send_callback done) override;
  void on_message(std::uint16_t channel, message_handler handler) override;
  void on_peer_down(peer_down_handler handler) override;
  std::vector<peer_status> peers() const override;
  transport_counters counters() const override;

 private:
  struct state;
  // What a fetch into memory of the host's calls back with, once `fault` is done to its ranges there.
  fetch_callback spoiling(fetch_fault fault, std::span<std::byte> destination,
                          std::vector<fetch_range> ranges, fetch_callback done);
  operation_id begin_failed(fetch_fault fault, std::size_t ranges, duration timeout, fetch_callback done);

  std::shared_ptr<state> state_;
  std::unique_ptr<transport> inner_;
};

}  // namespace weft::fabric
