#include "ucx/progress_loop.hpp"

#include <weft/fabric/arrival.hpp>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <utility>

namespace weft::fabric {

namespace {

constexpr int progress_calls_max = 64;  // before looking at anything else
constexpr auto sleep_max = std::chrono::seconds{1};
constexpr auto shut_down_max = std::chrono::seconds{2};

time_point clock_now() {
  return std::chrono::steady_clock::now();
}

int milliseconds_until(time_point wake, time_point now) {
  if (wake <= now) return 0;
  // Rounded up: waking early would only spin.
  return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(wake - now).count());
}

// What this thread's `drive` has begun so far.
struct beginning_drive {
  const progress_loop* loop = nullptr;
  bool submitted = false;
};
thread_local beginning_drive beginning;

error closed_error() {
  return {errc::cancelled, "the transport closes"};
}

}  // namespace

progress_loop::progress_loop(ucx_worker worker, ucx_arena arena, ucx_listener listener, own_identity self,
                             const handler_table& handlers, node_statistics& statistics,
                             progress_options options)
    : worker_(std::move(worker)),
      arena_(std::move(arena)),
      handlers_(handlers),
      statistics_(statistics),
      options_(options),
      spin_(options.driver_spin),
      place_(worker_.event_descriptor(), queue_.descriptor()),
      connections_(worker_, std::move(listener), arena_, std::move(self), sender_, statistics_,
                   {.opened =
                        [this](connection& which) {
                          messages_.deliver_kept(which);
                          fetches_.met(which);
                        },
                    .closing =
                        [this](connection& which, const error& why, bool by_peer) {
                          fetches_.lost(which, why);
                          if (!by_peer) return;
                          statistics_.peer_down(which.id);
                          handlers_.peer_down(which.id, why);
                        }}),
      fetches_(arena_, connections_, sender_, statistics_, options_.chunk_bytes),
      pushes_(arena_, connections_, sender_, statistics_),
      messages_(handlers_, connections_, sender_, statistics_) {}

// -- what comes from peers ------------------------------------------------------------------------

template <message_kind Kind>
result<void> progress_loop::handle() {
  const auto handler = [](void* argument, const void* header, std::size_t header_bytes, void* data,
                          std::size_t bytes, const ucp_am_recv_param_t* param) {
    return on_active_message(Kind, argument, header, header_bytes, data, bytes, param);
  };
  return worker_.set_handler(static_cast<unsigned>(Kind), handler, this);
}

result<void> progress_loop::prepare() {
  for (auto set : {handle<message_kind::hello>(), handle<message_kind::message>(),
                   handle<message_kind::fetch_request>(), handle<message_kind::fetch_data>(),
                   handle<message_kind::fetch_refused>(), handle<message_kind::fetch_cancel>()})
    if (!set) return set;
  return {};
}

ucs_status_t progress_loop::on_active_message(message_kind kind, void* argument, const void* header,
                                              std::size_t header_bytes, void* data, std::size_t bytes,
                                              const ucp_am_recv_param_t* param) {
  auto* loop = static_cast<progress_loop*>(argument);
  // A rendezvous descriptor is no data; UCX tells the sender that it was dropped.
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) return UCS_OK;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) == 0) return UCS_OK;
  auto* from = loop->connections_.find(param->reply_ep);
  if (from == nullptr || from->broken) return UCS_OK;
  loop->dispatch(kind, *from, {static_cast<const std::byte*>(header), header_bytes},
                 {static_cast<const std::byte*>(data), bytes});
  return UCS_OK;
}

void progress_loop::dispatch(message_kind kind, connection& from, std::span<const std::byte> header,
                             std::span<const std::byte> payload) {
  switch (kind) {
    case message_kind::hello:
      return connections_.on_hello(from, header, payload);
    case message_kind::message:
      return messages_.on_message(from, header, payload);
    case message_kind::fetch_request:
      return pushes_.on_request(from, header, payload);
    case message_kind::fetch_data:
      return fetches_.on_data(from, header, payload);
    case message_kind::fetch_refused:
      return fetches_.on_refused(from, header);
    case message_kind::fetch_cancel:
      return pushes_.on_cancel(from, header);
  }
}

// -- what comes from this process -----------------------------------------------------------------

bool progress_loop::take_commands(time_point now) {
  if (!queue_.take(taken_)) return false;
  for (auto& taken : taken_)
    std::visit([&](auto& what) { execute(what, now); }, taken);
  taken_.clear();
  return true;
}

void progress_loop::execute(connect_command& what, time_point) {
  connections_.connect(what.address, what.deadline, std::move(what.done));
}

void progress_loop::execute(disconnect_command& what, time_point now) {
  connections_.disconnect(what.peer, now, {errc::cancelled, "the peer was disconnected"});
}

void progress_loop::execute(fetch_command& what, time_point) {
  fetches_.start(std::move(what.operation));
}

void progress_loop::execute(cancel_command& what, time_point) {
  fetches_.end(what.operation, {errc::cancelled, "the fetch was cancelled"});
}

void progress_loop::execute(send_command& what, time_point) {
  messages_.send(what.to, what.channel, std::move(what.payload), std::move(what.done));
}

// -- the loop -------------------------------------------------------------------------------------

bool progress_loop::turn(time_point now) {
  bool busy = take_commands(now);
  for (int calls = 0; calls < progress_calls_max && worker_.progress(); ++calls)
    busy = true;
  busy |= connections_.pump(now);
  busy |= fetches_.pump(now);
  pushes_.pump();
  busy |= messages_.pump();
  return busy;
}

void progress_loop::run() {
  std::unique_lock moving{moving_};
  mover_.store(std::this_thread::get_id());
  unsigned idle_rounds = 0;
  auto last_busy = clock_now();
  while (!stopping_.load(std::memory_order_relaxed)) {
    const auto now = clock_now();
    if (turn(now)) {
      idle_rounds = 0;
      last_busy = now;
    } else if (followers_.load() > 0 && spin_.once(last_busy, now)) {
      continue;
    } else if (++idle_rounds > options_.spin_rounds && !connections_.warm_up()) {
      sleep(moving, now);
    }
  }
  shut_down();
}

time_point progress_loop::next_wake(time_point now) const {
  auto wake = now + sleep_max;
  if (const auto next = connections_.next_deadline()) wake = std::min(wake, *next);
  if (const auto next = fetches_.next_deadline()) wake = std::min(wake, *next);
  return wake;
}

void progress_loop::sleep(std::unique_lock<std::mutex>& moving, time_point now) {
  own_wake_ = next_wake(now);
  if (queue_.fall_asleep() && worker_.arm()) {
    const auto timeout_ms = milliseconds_until(own_wake_, clock_now());
    mover_.store({});
    moving.unlock();
    place_.sleep(timeout_ms);
    moving.lock();
    mover_.store(std::this_thread::get_id());
  }
  queue_.awake();
  queue_.hear();
}

// -- in place of the own thread -------------------------------------------------------------------

void progress_loop::drive(const std::function<void()>& begin, arrival& until) {
  if (mover_.load() == std::this_thread::get_id())
    throw std::logic_error("a callback of a transport waits for the transport");
  beginning = {.loop = this, .submitted = false};
  begin();
  const bool submitted = std::exchange(beginning, {}).submitted;
  if (until.has_come() && !submitted) return;
  std::unique_lock moving{moving_, std::try_to_lock};
  if (!moving) return follow(until);
  mover_.store(std::this_thread::get_id());
  place_.lend();
  queue_.awake();
  drive_until(until);
  hand_back();
  mover_.store({});
  moving.unlock();
  until.wait();  // of a loop that stops
}

// Another thread moves what this one has begun.
void progress_loop::follow(const arrival& until) {
  ++followers_;
  queue_.tell();
  until.wait();
  --followers_;
}

void progress_loop::submit(command what) {
  if (beginning.loop != this) return queue_.push(std::move(what));
  beginning.submitted = true;
  queue_.leave(std::move(what));
}

bool progress_loop::finish_at_once(std::unique_ptr<fetch_operation>& operation) {
  return beginning.loop == this && fetches_.finish_at_once(operation);
}

void progress_loop::drive_until(arrival& until) {
  const auto begun = clock_now();
  while (!until.has_come() && !stopping_.load(std::memory_order_relaxed)) {
    const auto now = clock_now();
    const bool more = turn(now) || until.has_come() || connections_.warm_up() || spin_.once(begun, now);
    if (!more) sleep_as_guest(until, now);
  }
}

void progress_loop::sleep_as_guest(arrival& until, time_point now) {
  const auto wake = next_wake(now);
  if (queue_.fall_asleep() && worker_.arm() && until.fall_asleep(queue_.descriptor())) {
    if (place_.sleep_as_guest(milliseconds_until(wake, clock_now()))) queue_.hear();
    until.awake();
  }
  queue_.awake();
}

void progress_loop::hand_back() {
  const bool quiet = rest_is_quiet();
  place_.take_back();
  if (!quiet) queue_.wake();
}

bool progress_loop::rest_is_quiet() {
  const auto now = clock_now();
  return !stopping_.load() && followers_.load() == 0 && !turn(now) && queue_.fall_asleep() && worker_.arm() &&
         own_wake_ <= next_wake(now);
}

void progress_loop::stop() {
  stopping_.store(true);
  queue_.wake();
}

void progress_loop::shut_down() {
  const auto deadline = clock_now() + shut_down_max;
  for (auto now = clock_now(); now < deadline; now = clock_now()) {
    take_commands(now);
    connections_.disconnect_all(now, closed_error());
    turn(now);
    if (connections_.all_closed() && fetches_.none() && sender_.in_flight() == 0) return;
  }
}

}  // namespace weft::fabric
