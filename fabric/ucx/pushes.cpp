#include "ucx/pushes.hpp"

#include <utility>

namespace weft::fabric {

namespace {
constexpr unsigned pushes_in_flight_max = 16;  // chunks of one connection
}

void pushes::on_request(connection& from, std::span<const std::byte> header,
                        std::span<const std::byte> payload) {
  const auto request = parse_fetch_request(header);
  if (!request) return peers_.break_off(from, request.error());
  const bool idle = from.pushes.empty();
  if (auto accepted = from.pushes.accept(*request, payload, arena_.readable().size()); !accepted)
    return refuse(from, request->operation, accepted.error());
  if (idle && !from.pushes.empty()) with_work_.push_back(from.id);
}

void pushes::on_cancel(connection& from, std::span<const std::byte> header) {
  const auto cancel = parse_fetch_cancel(header);
  if (!cancel) return peers_.break_off(from, cancel.error());
  from.pushes.cancel(cancel->operation);
}

void pushes::refuse(connection& to, std::uint64_t operation, refusal reason) {
  sender_.send(to.endpoint->get(),
               sender_.make(message_kind::fetch_refused, encode(fetch_refused_header{operation, reason})));
}

void pushes::pump() {
  std::erase_if(with_work_, [&](peer_id id) {
    auto* to = peers_.find(id);
    if (to == nullptr) return true;
    if (!to->broken) fill_window(*to);
    return to->pushes.empty();
  });
}

void pushes::fill_window(connection& to) {
  while (to.pushes_in_flight < pushes_in_flight_max && !to.pushes.empty()) {
    auto message = sender_.make(message_kind::fetch_data, {});
    const auto chunk = to.pushes.next(arena_.readable(), message->staging);
    message->header = encode(chunk.header);
    message->payload = chunk.bytes;
    ++to.pushes_in_flight;
    message->done = [this, id = to.id,
                     bytes = static_cast<std::uint32_t>(chunk.bytes.size())](ucs_status_t status) {
      if (status == UCS_OK) statistics_.pushed(bytes);
      if (auto* peer = peers_.find(id)) --peer->pushes_in_flight;
    };
    sender_.send(to.endpoint->get(), std::move(message));
  }
}

}  // namespace weft::fabric
