#include <weft/fabric/faulty_transport.hpp>
#include <weft/fabric/fetch_watcher.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <random>
#include <set>
#include <utility>

namespace weft::fabric {

namespace {

// Ids of operations that never reach the inner transport; far above what it gives out.
constexpr std::uint64_t own_operations_from = std::uint64_t{1} << 63;

error injected(errc code) {
  return {code, "an injected fault"};
}

fetch_report failed_report(std::size_t ranges, const error& why) {
  fetch_report report;
  report.outcome = tl::unexpected{why};
  report.ranges.assign(ranges, tl::unexpected{why});
  return report;
}

bool inside(const fetch_range& range, std::size_t arena_bytes) {
  return range.local_offset <= arena_bytes && range.length_bytes <= arena_bytes - range.local_offset;
}

// What stood in the destination before, to put back what "did not arrive".
using saved_bytes = std::vector<std::vector<std::byte>>;

saved_bytes save(std::span<const std::byte> arena, const std::vector<fetch_range>& ranges) {
  saved_bytes out;
  for (const auto& range : ranges) {
    const auto bytes = inside(range, arena.size()) ? arena.subspan(range.local_offset, range.length_bytes)
                                                   : std::span<const std::byte>{};
    out.emplace_back(bytes.begin(), bytes.end());
  }
  return out;
}

void put_back(std::span<std::byte> arena, const fetch_range& range, const std::vector<std::byte>& before,
              std::size_t from) {
  if (from < before.size())
    std::copy(before.begin() + static_cast<std::ptrdiff_t>(from), before.end(),
              arena.begin() + static_cast<std::ptrdiff_t>(range.local_offset + from));
}

// What a fault leaves of a view: the owner's bytes stay as they are, a copy of them is spoilt.
arena_view spoilt(const arena_view& whole, fetch_fault fault, std::uint64_t at, unsigned bit) {
  const auto bytes = whole.bytes();
  auto copy = std::make_shared<std::vector<std::byte>>(bytes.begin(), bytes.end());
  if (fault == fetch_fault::flip_bit) {
    (*copy)[at] ^= std::byte{1} << bit;
  } else {
    const auto missing_from = fault == fetch_fault::lose ? 0 : static_cast<std::ptrdiff_t>(at);
    std::fill(copy->begin() + missing_from, copy->end(), std::byte{0});
  }
  const std::span<const std::byte> shown = *copy;
  return {std::move(copy), shown};
}

}  // namespace

// Shared with the callbacks, which may outlive the wrapper in a scheduler.
struct faulty_transport::state {
  // Until the wrapper goes.
  std::mutex sending;
  transport* inner = nullptr;

  // A fetch that is over for the inner transport, or never was one of it, and whose caller waits still.
  struct waiting {
    fetch_report report;
    fetch_callback done;
  };

  mutable std::mutex mutex;
  scheduler later;
  fault_plan plan;
  std::mt19937_64 random;
  std::uint64_t fetches = 0;
  std::uint64_t sends = 0;
  fault_counts counts;
  std::uint64_t last_own_operation = own_operations_from;
  std::map<std::uint64_t, waiting> held;

  template <class Fault>
  Fault draw(const std::map<Fault, unsigned>& per_mille, const std::map<std::uint64_t, Fault>& nth,
             std::uint64_t index) {
    auto drawn = Fault::none;
    for (const auto& [fault, chance] : per_mille)
      if (random() % 1000 < chance && drawn == Fault::none) drawn = fault;
    const auto planned = nth.find(index);
    return planned == nth.end() ? drawn : planned->second;
  }

  fetch_fault draw_fetch() {
    const std::lock_guard lock{mutex};
    const auto fault = draw(plan.fetches_per_mille, plan.nth_fetch, fetches++);
    counts.fetches += fault != fetch_fault::none ? 1 : 0;
    return fault;
  }

  send_fault draw_send() {
    const std::lock_guard lock{mutex};
    const auto fault = draw(plan.sends_per_mille, plan.nth_send, sends++);
    counts.sends += fault != send_fault::none ? 1 : 0;
    return fault;
  }

  std::uint64_t random_below(std::uint64_t bound) {
    const std::lock_guard lock{mutex};
    return random() % std::max<std::uint64_t>(bound, 1);
  }

  duration random_delay() {
    const std::lock_guard lock{mutex};
    const auto span = std::max<duration::rep>(plan.late_max.count(), 1);
    return duration{static_cast<duration::rep>(random() % static_cast<std::uint64_t>(span)) + 1};
  }

  void release(std::uint64_t operation, const error* instead) {
    waiting ready;
    {
      const std::lock_guard lock{mutex};
      auto node = held.extract(operation);
      if (node.empty()) return;
      ready = std::move(node.mapped());
    }
    if (instead != nullptr) ready.report = failed_report(ready.report.ranges.size(), *instead);
    if (ready.done) ready.done(std::move(ready.report));
  }

  // The caller gets the report after `delay`, or earlier by `release`.
  static void hold(const std::shared_ptr<state>& self, std::uint64_t operation, duration delay,
                   waiting what) {
    {
      const std::lock_guard lock{self->mutex};
      self->held.emplace(operation, std::move(what));
    }
    self->later(delay, [weak = std::weak_ptr{self}, operation] {
      if (const auto alive = weak.lock()) alive->release(operation, nullptr);
    });
  }

  std::uint64_t next_own_operation() {
    const std::lock_guard lock{mutex};
    return ++last_own_operation;
  }

  // Spoils a fetch that went well.
  void spoil(fetch_fault fault, std::span<std::byte> arena, const std::vector<fetch_range>& ranges,
             const saved_bytes& before) {
    if (fault == fetch_fault::lose) {
      for (std::size_t i = 0; i < ranges.size(); ++i)
        put_back(arena, ranges[i], before[i], 0);
      return;
    }
    std::vector<std::size_t> candidates;
    for (std::size_t i = 0; i < ranges.size(); ++i)
      if (!before[i].empty()) candidates.push_back(i);
    if (candidates.empty()) return;
    const auto chosen = candidates[random_below(candidates.size())];
    const auto& range = ranges[chosen];
    const auto at = random_below(range.length_bytes);
    if (fault == fetch_fault::truncate) {
      put_back(arena, range, before[chosen], at);
    } else {
      arena[range.local_offset + at] ^= std::byte{1} << random_below(8);
    }
  }

  // One of the views, all of them where everything is lost.
  void spoil_views(fetch_fault fault, std::vector<arena_view>& views) {
    std::vector<arena_view*> candidates;
    for (auto& view : views)
      if (!view.bytes().empty()) candidates.push_back(&view);
    if (candidates.empty()) return;
    if (fault != fetch_fault::lose) candidates = {candidates[random_below(candidates.size())]};
    for (auto* view : candidates) {
      const auto at = random_below(view->bytes().size());
      *view = spoilt(*view, fault, at, static_cast<unsigned>(random_below(8)));
    }
  }
};

faulty_transport::faulty_transport(std::unique_ptr<transport> inner, scheduler later, fault_plan plan)
    : state_(std::make_shared<state>()), inner_(std::move(inner)) {
  state_->inner = inner_.get();
  state_->later = std::move(later);
  state_->random.seed(plan.seed);
  state_->plan = std::move(plan);
}

faulty_transport::~faulty_transport() {
  {
    const std::lock_guard lock{state_->sending};
    state_->inner = nullptr;
  }
  inner_.reset();
  const auto closes = error{errc::cancelled, "the transport closes"};
  for (;;) {
    std::uint64_t operation = 0;
    {
      const std::lock_guard lock{state_->mutex};
      if (state_->held.empty()) return;
      operation = state_->held.begin()->first;
    }
    state_->release(operation, &closes);
  }
}

void faulty_transport::change_plan(fault_plan plan) {
  const std::lock_guard lock{state_->mutex};
  state_->random.seed(plan.seed);
  state_->plan = std::move(plan);
  state_->fetches = 0;
  state_->sends = 0;
}

fault_counts faulty_transport::faults() const {
  const std::lock_guard lock{state_->mutex};
  return state_->counts;
}

operation_id faulty_transport::begin_failed(fetch_fault fault, std::size_t ranges, duration timeout,
                                            fetch_callback done) {
  const bool stalls = fault == fetch_fault::stall;
  const auto operation = state_->next_own_operation();
  const auto why = injected(stalls ? errc::deadline_exceeded : errc::unreachable);
  state::hold(state_, operation, stalls ? timeout : duration{1},
              {failed_report(ranges, why), std::move(done)});
  return operation_id{operation};
}

operation_id faulty_transport::view(peer_id peer, std::vector<fetch_range> ranges, duration timeout,
                                    fetch_callback done, std::shared_ptr<fetch_watcher> watcher) {
  const auto fault = state_->draw_fetch();
  if (fault == fetch_fault::none)
    return inner_->view(peer, std::move(ranges), timeout, std::move(done), std::move(watcher));
  if (fault == fetch_fault::fail || fault == fetch_fault::stall)
    return begin_failed(fault, ranges.size(), timeout, std::move(done));
  if (watcher)  // it must see what is there after the fault
    done = [watcher = std::move(watcher), then = std::move(done)](fetch_report report) {
      show_views(*watcher, report);
      if (then) then(std::move(report));
    };
  return inner_->view(peer, std::move(ranges), timeout,
                      [self = state_, fault, done = std::move(done)](fetch_report report) {
                        if (!report.outcome) return done ? done(std::move(report)) : void();
                        if (fault == fetch_fault::fail_late)
                          report = failed_report(report.ranges.size(), injected(errc::unreachable));
                        if (fault == fetch_fault::late)
                          return state::hold(self, self->next_own_operation(), self->random_delay(),
                                             {std::move(report), done});
                        self->spoil_views(fault, report.views);
                        if (done) done(std::move(report));
                      });
}

operation_id faulty_transport::fetch(peer_id peer, std::vector<fetch_range> ranges, duration timeout,
                                     fetch_callback done, std::shared_ptr<fetch_watcher> watcher) {
  const auto fault = state_->draw_fetch();
  switch (fault) {
    case fetch_fault::none:
      return inner_->fetch(peer, std::move(ranges), timeout, std::move(done), std::move(watcher));
    case fetch_fault::fail:
    case fetch_fault::stall:
      return begin_failed(fault, ranges.size(), timeout, std::move(done));
    default:
      break;
  }
  const auto arena = inner_->arena();
  // It must see what is there after the fault.
  if (watcher) done = shown_whole(std::move(watcher), arena, ranges, std::move(done));
  done = spoiling(fault, arena, ranges, std::move(done));
  return inner_->fetch(peer, std::move(ranges), timeout, std::move(done));
}

result<std::shared_ptr<const registered_memory>> faulty_transport::register_memory(std::span<std::byte> bytes,
                                                                                   memory_kind kind) {
  return inner_->register_memory(bytes, kind);
}

operation_id faulty_transport::land(peer_id peer, std::vector<fetch_range> ranges,
                                    std::shared_ptr<const registered_memory> into, duration timeout,
                                    fetch_callback done) {
  const auto fault = state_->draw_fetch();
  if (fault == fetch_fault::fail || fault == fetch_fault::stall)
    return begin_failed(fault, ranges.size(), timeout, std::move(done));
  if (fault != fetch_fault::none && into && into->kind() == memory_kind::host)
    done = spoiling(fault, into->bytes(), ranges, std::move(done));
  return inner_->land(peer, std::move(ranges), std::move(into), timeout, std::move(done));
}

fetch_callback faulty_transport::spoiling(fetch_fault fault, std::span<std::byte> destination,
                                          std::vector<fetch_range> ranges, fetch_callback done) {
  auto before = save(destination, ranges);
  return [self = state_, fault, destination, before = std::move(before), ranges = std::move(ranges),
          done = std::move(done)](fetch_report report) {
    if (!report.outcome) return done ? done(std::move(report)) : void();
    if (fault == fetch_fault::fail_late) report = failed_report(ranges.size(), injected(errc::unreachable));
    if (fault == fetch_fault::late)
      return state::hold(self, self->next_own_operation(), self->random_delay(), {std::move(report), done});
    if (fault != fetch_fault::fail_late) self->spoil(fault, destination, ranges, before);
    if (done) done(std::move(report));
  };
}

void faulty_transport::cancel(operation_id operation) {
  const auto own = static_cast<std::uint64_t>(operation);
  if (own < own_operations_from) return inner_->cancel(operation);
  state_->later(duration{1}, [weak = std::weak_ptr{state_}, own] {
    const auto cancelled = error{errc::cancelled, "the fetch was cancelled"};
    if (const auto alive = weak.lock()) alive->release(own, &cancelled);
  });
}

void faulty_transport::send(peer_id peer, std::uint16_t channel, std::vector<std::byte> payload,
                            send_callback done) {
  const auto fault = state_->draw_send();
  if (fault == send_fault::twice) inner_->send(peer, channel, payload, {});
  if (fault == send_fault::none || fault == send_fault::twice)
    return inner_->send(peer, channel, std::move(payload), std::move(done));
  if (fault == send_fault::late) {
    state_->later(state_->random_delay(), [weak = std::weak_ptr{state_}, peer, channel, payload] {
      const auto alive = weak.lock();
      if (!alive) return;
      const std::lock_guard lock{alive->sending};
      if (alive->inner != nullptr) alive->inner->send(peer, channel, payload, {});
    });
  }
  state_->later(duration{1}, [fault, done = std::move(done)] {
    if (!done) return;
    if (fault == send_fault::fail) return done(tl::unexpected{injected(errc::unreachable)});
    done({});
  });
}

std::string faulty_transport::address() const {
  return inner_->address();
}
std::span<std::byte> faulty_transport::arena() {
  return inner_->arena();
}

void faulty_transport::connect(std::string address, duration timeout, connect_callback done) {
  inner_->connect(std::move(address), timeout, std::move(done));
}

void faulty_transport::disconnect(peer_id peer) {
  inner_->disconnect(peer);
}

void faulty_transport::on_message(std::uint16_t channel, message_handler handler) {
  inner_->on_message(channel, std::move(handler));
}

void faulty_transport::on_peer_down(peer_down_handler handler) {
  inner_->on_peer_down(std::move(handler));
}

std::vector<peer_status> faulty_transport::peers() const {
  return inner_->peers();
}

transport_counters faulty_transport::counters() const {
  return inner_->counters();
}

}  // namespace weft::fabric
