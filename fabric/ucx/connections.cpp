#include "ucx/connections.hpp"

#include "ucx/status.hpp"

#include <algorithm>
#include <utility>

namespace weft::fabric {

namespace {

constexpr auto hello_timeout = std::chrono::seconds{10};
constexpr auto farewell_timeout = std::chrono::milliseconds{200};

// Null when done at once.
void* flush(const ucx_endpoint& endpoint) {
  const ucp_request_param_t params{};
  auto* request = ucp_ep_flush_nbx(endpoint.get(), &params);
  return UCS_PTR_IS_PTR(request) ? request : nullptr;
}

bool finished(void*& request) {
  if (request == nullptr) return true;
  if (ucp_request_check_status(request) == UCS_INPROGRESS) return false;
  ucp_request_free(request);
  request = nullptr;
  return true;
}

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

}  // namespace

connections::connections(const ucx_worker& worker, ucx_listener listener, const ucx_arena& arena,
                         own_identity self, active_sender& sender, node_statistics& statistics, events on)
    : worker_(worker),
      arena_(arena),
      self_(std::move(self)),
      sender_(sender),
      statistics_(statistics),
      on_(std::move(on)),
      listener_(std::move(listener)) {}

connections::~connections() {
  for (auto& [id, which] : by_id_)
    if (which->flush_request != nullptr) ucp_request_free(which->flush_request);
  for (auto& leaving : lingering_)
    if (leaving.flush_request != nullptr) ucp_request_free(leaving.flush_request);
}

// -- finding --------------------------------------------------------------------------------------

connection* connections::find(peer_id peer) {
  const auto at = by_id_.find(peer);
  if (at == by_id_.end() || at->second->state != connection::phase::open) return nullptr;
  return at->second.get();
}

connection* connections::find(ucp_ep_h endpoint) {
  const auto at = by_endpoint_.find(endpoint);
  return at == by_endpoint_.end() ? nullptr : at->second;
}

connection* connections::find_by_nonce(const id128& nonce) {
  for (auto& [id, which] : by_id_) {
    const bool known = which->initiated || which->state == connection::phase::open;
    if (known && !which->broken && which->address.nonce == nonce) return which.get();
  }
  return nullptr;
}

connection& connections::add(std::unique_ptr<connection> fresh) {
  fresh->id = peer_id{++last_id_};
  if (fresh->endpoint) by_endpoint_.emplace(fresh->endpoint->get(), fresh.get());
  return *by_id_.emplace(fresh->id, std::move(fresh)).first->second;
}

// -- connecting -----------------------------------------------------------------------------------

void connections::connect(const std::string& address, time_point deadline, connect_callback done) {
  auto to = parse_node_address(bytes_of(address));
  if (!to) return done(tl::unexpected{to.error()});
  if (auto* known = find_by_nonce(to->nonce)) {
    if (known->state == connection::phase::open) return done(known->id);
    known->callers.push_back({deadline, std::move(done)});
  } else if (to->nonce == self_.address.nonce) {
    connect_to_self(done);
  } else {
    start_connect(*to, deadline, std::move(done));
  }
}

void connections::connect_to_self(const connect_callback& done) {
  auto fresh = std::make_unique<connection>();
  fresh->initiated = true;
  fresh->state = connection::phase::open;
  fresh->address = self_.address;
  fresh->view = arena_.bytes();
  fresh->way = path::get;
  auto& self = add(std::move(fresh));
  statistics_.peer_up({.peer = self.id, .transport = "self", .way = self.way});
  done(self.id);
}

void connections::start_connect(const node_address& to, time_point deadline, connect_callback done) {
  auto socket = make_socket_address(to.host, to.port);
  if (!socket) return done(tl::unexpected{socket.error()});
  auto endpoint = ucx_endpoint::connect(worker_, *socket, failures_);
  if (!endpoint) return done(tl::unexpected{endpoint.error()});
  auto fresh = std::make_unique<connection>();
  fresh->initiated = true;
  fresh->address = to;
  fresh->endpoint = std::make_unique<ucx_endpoint>(std::move(*endpoint));
  fresh->handshake_deadline = time_point::max();
  fresh->flush_request = flush(*fresh->endpoint);
  fresh->inbox.hold();
  fresh->callers.push_back({deadline, std::move(done)});
  handshaking_.push_back(add(std::move(fresh)).id);
}

bool connections::accept_waiting(time_point now) {
  bool any = false;
  while (auto* request = listener_.take()) {
    any = true;
    auto endpoint = ucx_endpoint::accept(worker_, request, failures_);
    if (!endpoint) continue;
    auto fresh = std::make_unique<connection>();
    fresh->endpoint = std::make_unique<ucx_endpoint>(std::move(*endpoint));
    fresh->handshake_deadline = now + hello_timeout;
    fresh->flush_request = flush(*fresh->endpoint);
    fresh->inbox.hold();
    handshaking_.push_back(add(std::move(fresh)).id);
  }
  return any;
}

// -- greeting -------------------------------------------------------------------------------------

void connections::send_hello(connection& to) {
  // Who only listened learns the other's nonce from its hello.
  const auto nonce = to.initiated ? to.address.nonce : to.greeting->nonce;
  auto hello = sender_.make(message_kind::hello, encode(hello_header{protocol_version, nonce}));
  const auto bytes = bytes_of(self_.encoded);
  hello->staging.assign(bytes.begin(), bytes.end());
  hello->payload = hello->staging;
  sender_.send(to.endpoint->get(), std::move(hello));
}

void connections::on_hello(connection& from, std::span<const std::byte> header,
                           std::span<const std::byte> payload) {
  if (from.greeting || from.state == connection::phase::open) return;
  const auto hello = parse_hello(header);
  if (!hello) return break_off(from, hello.error());
  if (hello->version != protocol_version)
    return break_off(from,
                     {errc::unsupported, "the peer speaks fabric protocol " + std::to_string(hello->version) +
                                             ", this build " + std::to_string(protocol_version)});
  from.misdirected = hello->receiver_nonce != self_.address.nonce;
  auto address = parse_node_address(payload);
  if (!address) return break_off(from, address.error());
  from.greeting = std::move(*address);
}

result<void> connections::check_greeting(const connection& which) const {
  if (which.initiated && which.greeting->nonce != which.address.nonce)
    return fail(errc::stale, "another node answers at " + which.address.host + ":" +
                                 std::to_string(which.address.port) + "; look its address up again");
  return {};
}

bool connections::flushed(connection& which) {
  return finished(which.flush_request);
}

bool connections::advance(connection& which, time_point now) {
  if (which.broken) return false;
  if (which.state == connection::phase::flushing && flushed(which)) {
    which.state = connection::phase::awaiting_hello;
    if (which.initiated) send_hello(which);
  }
  if (which.state == connection::phase::awaiting_hello && which.greeting) {
    if (which.misdirected) return answer_misdirected(which);
    if (auto opened = open(which); !opened) break_off(which, opened.error());
    return true;
  }
  expire_callers(which, now);
  if (now >= which.handshake_deadline)
    break_off(which, {errc::deadline_exceeded, "a peer connected and said nothing"});
  return which.broken.has_value();
}

// The answer tells the peer who is here now.
bool connections::answer_misdirected(connection& which) {
  send_hello(which);
  which.greeting.reset();
  return true;
}

void connections::expire_callers(connection& which, time_point now) {
  if (!which.initiated) return;
  std::vector<connect_callback> late;
  std::erase_if(which.callers, [&](connection::waiting_caller& caller) {
    if (caller.deadline > now) return false;
    late.push_back(std::move(caller.done));
    return true;
  });
  const auto where = which.address.host + ":" + std::to_string(which.address.port);
  if (which.callers.empty())
    break_off(which, {errc::deadline_exceeded, "nobody waits for " + where + " any more"});
  for (const auto& done : late)
    done(fail(errc::deadline_exceeded, "no connection to " + where + " in time"));
}

result<void> connections::open(connection& which) {
  if (auto right = check_greeting(which); !right) return right;
  which.address = std::move(*which.greeting);
  which.greeting.reset();
  auto region = ucx_remote_region::make(*which.endpoint, which.address.rkey, which.address.arena_base,
                                        which.address.readable_bytes());
  if (!region) return tl::unexpected{region.error()};
  which.region = std::make_unique<ucx_remote_region>(std::move(*region));
  choose_path(which);
  if (!which.initiated) {
    which.greeting = which.address;
    send_hello(which);
  }
  which.state = connection::phase::open;
  for (auto& caller : std::exchange(which.callers, {}))
    caller.done(which.id);
  on_.opened(which);
  return {};
}

void connections::choose_path(connection& which) {
  const auto view = which.region->view();
  const auto transport = transport_name(!view.empty(), which.endpoint->lanes());
  which.one_sided = !view.empty() || transport == "rdma";
  which.way = which.one_sided ? path::get : path::push;
  if (self_.map_peer_arenas) {
    which.view = view.empty() ? view : view.first(which.address.arena_bytes);
    which.mapping = which.region->mapping();
  }
  if (!which.view.empty()) cold_.push_back(which.id);
  statistics_.peer_up({.peer = which.id, .transport = transport, .way = which.way});
}

bool connections::advance_handshakes(time_point now) {
  bool any = false;
  // Callbacks may not touch the list, they only submit.
  std::erase_if(handshaking_, [&](peer_id id) {
    const auto at = by_id_.find(id);
    if (at == by_id_.end()) return true;
    any |= advance(*at->second, now);
    return at->second->state == connection::phase::open || at->second->broken;
  });
  return any;
}

// -- failing and closing --------------------------------------------------------------------------

void connections::break_off(connection& which, error why) {
  if (!which.broken) which.broken = std::move(why);
  any_broken_ = true;
}

bool connections::take_failures() {
  if (failures_->empty()) return false;
  for (const auto& failure : std::exchange(*failures_, {})) {
    auto* which = find(failure.endpoint);
    if (which == nullptr) continue;
    const auto where = which->address.host + ":" + std::to_string(which->address.port);
    break_off(*which, {errc::unreachable, "peer " + where + ": " + ucs_status_string(failure.status)});
  }
  return true;
}

bool connections::close_broken(time_point now) {
  if (!std::exchange(any_broken_, false)) return false;
  std::vector<connection*> broken;
  for (auto& [id, which] : by_id_)
    if (which->broken) broken.push_back(which.get());
  for (auto* which : broken)
    close(*which, *which->broken, true, now);
  return !broken.empty();
}

void connections::close(connection& which, const error& why, bool by_peer, time_point flush_deadline) {
  for (auto& caller : std::exchange(which.callers, {}))
    caller.done(tl::unexpected{why});
  if (which.state == connection::phase::open) on_.closing(which, why, by_peer);
  auto node = by_id_.extract(which.id);
  auto& gone = *node.mapped();
  if (gone.flush_request != nullptr) ucp_request_free(gone.flush_request);
  if (!gone.endpoint) return;
  by_endpoint_.erase(gone.endpoint->get());
  lingering_endpoint leaving{std::move(gone.endpoint), std::move(gone.region), nullptr, flush_deadline};
  if (by_peer) {
    leaving.endpoint->close();
  } else {
    leaving.flush_request = flush(*leaving.endpoint);
  }
  lingering_.push_back(std::move(leaving));
}

void connections::disconnect(peer_id peer, time_point now, const error& why) {
  const auto at = by_id_.find(peer);
  if (at != by_id_.end()) close(*at->second, why, false, now + farewell_timeout);
  statistics_.peer_left(peer);
}

void connections::disconnect_all(time_point now, const error& why) {
  while (!by_id_.empty())
    disconnect(by_id_.begin()->first, now, why);
}

bool connections::advance_lingering(time_point now) {
  if (lingering_.empty()) return false;
  std::erase_if(lingering_, [&](lingering_endpoint& leaving) {
    if (finished(leaving.flush_request) || now >= leaving.flush_deadline) leaving.endpoint->close();
    if (!leaving.endpoint->closed()) return false;
    if (leaving.flush_request != nullptr) ucp_request_free(leaving.flush_request);
    leaving.region.reset();
    return true;
  });
  return false;
}

bool connections::warm_up() {
  while (!cold_.empty()) {
    auto* peer = find(cold_.back());
    if (peer != nullptr && peer->region->warm_up()) return true;
    cold_.pop_back();
  }
  return false;
}

bool connections::pump(time_point now) {
  bool any = accept_waiting(now);
  any |= take_failures();
  if (!handshaking_.empty()) any |= advance_handshakes(now);
  any |= close_broken(now);
  any |= advance_lingering(now);
  return any;
}

std::optional<time_point> connections::next_deadline() const {
  std::optional<time_point> next;
  const auto consider = [&](time_point at) { next = next ? std::min(*next, at) : at; };
  for (const auto& leaving : lingering_)
    consider(leaving.flush_deadline);
  for (const auto id : handshaking_) {
    const auto at = by_id_.find(id);
    if (at == by_id_.end()) continue;
    consider(at->second->handshake_deadline);
    for (const auto& caller : at->second->callers)
      consider(caller.deadline);
  }
  return next;
}

}  // namespace weft::fabric
