#include <weft/fabric/fetch_watcher.hpp>

#include "in_process/network_core.hpp"

#include <algorithm>
#include <utility>

namespace weft::fabric {

namespace {
constexpr auto longest_timeout = std::chrono::hours{24 * 365};

duration bounded(duration timeout) {
  return std::clamp<duration>(timeout, duration{0}, longest_timeout);
}
}  // namespace

// A call of any thread becomes an event; nothing else touches the node.
class in_process_network::node final : public transport {
 public:
  node(std::shared_ptr<core> network, node_state& state) : core_(std::move(network)), state_(state) {}
  node(const node&) = delete;
  node& operator=(const node&) = delete;
  ~node() override { core_->kill(state_, true); }

  std::string address() const override { return state_.address; }
  std::span<std::byte> arena() override { return state_.arena->bytes(); }

  void connect(std::string address, duration timeout, connect_callback done) override {
    post([this, to = std::move(address), timeout, callback = std::move(done)] {
      core_->connect(state_, to, bounded(timeout), callback);
    });
  }

  void disconnect(peer_id peer) override {
    post([this, peer] { core_->disconnect(state_, peer); });
  }

  operation_id fetch(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                     std::shared_ptr<fetch_watcher> watcher) override {
    if (watcher) done = shown_whole(std::move(watcher), arena(), ranges, std::move(done));
    return start(new_fetch(peer, std::move(ranges), std::move(done)), timeout);
  }

  operation_id view(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                    std::shared_ptr<fetch_watcher> watcher) override {
    if (watcher)
      done = [watcher = std::move(watcher), then = std::move(done)](fetch_report report) {
        show_views(*watcher, report);
        if (then) then(std::move(report));
      };
    auto fetch = new_fetch(peer, std::move(ranges), std::move(done));
    fetch.in_place = true;
    return start(std::move(fetch), timeout);
  }

  result<std::shared_ptr<const registered_memory>> register_memory(std::span<std::byte> bytes,
                                                                   memory_kind kind) override {
    if (bytes.empty()) return fail(errc::invalid_argument, "no memory to register");
    if (kind != memory_kind::host) return fail(errc::unsupported, "a simulated network has no devices");
    return std::make_shared<const simulated_registration>(state_, bytes, kind);
  }

  operation_id land(peer_id peer, std::vector<fetch_range> ranges,
                    std::shared_ptr<const registered_memory> into, duration timeout,
                    fetch_callback done) override {
    auto fetch = new_fetch(peer, std::move(ranges), std::move(done));
    fetch.landing = true;
    fetch.into = std::dynamic_pointer_cast<const simulated_registration>(std::move(into));
    return start(std::move(fetch), timeout);
  }

  void cancel(operation_id operation) override {
    post([this, operation] {
      core_->end_fetch(state_, static_cast<std::uint64_t>(operation),
                       {errc::cancelled, "the fetch was cancelled"});
    });
  }

  void send(peer_id peer, std::uint16_t channel, std::vector<std::byte> payload,
            send_callback done) override {
    post([this, peer, channel, bytes = std::move(payload), callback = std::move(done)] {
      core_->send(state_, peer, channel, bytes, callback);
    });
  }

  void on_message(std::uint16_t channel, message_handler handler) override {
    state_.handlers.set(channel, std::move(handler));
  }
  void on_peer_down(peer_down_handler handler) override { state_.handlers.set_peer_down(std::move(handler)); }

  std::vector<peer_status> peers() const override { return state_.statistics.peers(); }
  transport_counters counters() const override { return state_.statistics.counters(); }

 private:
  simulated_fetch new_fetch(peer_id peer, std::vector<fetch_range> ranges, fetch_callback done) const {
    simulated_fetch fetch;
    fetch.peer = peer;
    fetch.ranges = std::move(ranges);
    fetch.started = core_->events.now();
    fetch.done = std::move(done);
    return fetch;
  }

  operation_id start(simulated_fetch fetch, duration timeout) {
    const auto operation = ++core_->last_operation;
    post([this, operation, timeout, started = std::move(fetch)]() mutable {
      core_->fetch(state_, operation, std::move(started), bounded(timeout));
    });
    return operation_id{operation};
  }

  // The state outlives this object, and its events end with it.
  void post(std::function<void()> what) { core_->call(state_, std::move(what)); }

  std::shared_ptr<core> core_;
  node_state& state_;
};

in_process_network::in_process_network(network_options options) : core_(std::make_shared<core>(options)) {}

in_process_network::~in_process_network() = default;

std::unique_ptr<transport> in_process_network::add_node(std::size_t arena_bytes) {
  return std::make_unique<node>(core_, core_->add_node(arena_bytes));
}

bool in_process_network::step() {
  return core_->run_next(time_point::max());
}

void in_process_network::advance(duration by) {
  const auto until = core_->events.now() + by;
  while (core_->run_next(until)) {
  }
  core_->events.move_time_to(until);
}

time_point in_process_network::now() const {
  return core_->events.now();
}

void in_process_network::schedule(duration delay, std::function<void()> what) {
  core_->events.add(delay, {.what = std::move(what)});
}

void in_process_network::kill(const std::string& address) {
  if (auto* found = core_->find(address)) core_->kill(*found, false);
}

void in_process_network::freeze(const std::string& address) {
  if (auto* found = core_->find(address)) found->frozen = true;
}

void in_process_network::thaw(const std::string& address) {
  if (auto* found = core_->find(address)) core_->thaw(*found);
}

void in_process_network::partition(const std::string& address, const std::string& other) {
  const auto* a = core_->find(address);
  const auto* b = core_->find(other);
  if (a != nullptr && b != nullptr && a != b) core_->partitions.insert(std::minmax(a->number, b->number));
}

void in_process_network::heal(const std::string& address, const std::string& other) {
  const auto* a = core_->find(address);
  const auto* b = core_->find(other);
  if (a != nullptr && b != nullptr) core_->heal(a->number, b->number);
}

}  // namespace weft::fabric
