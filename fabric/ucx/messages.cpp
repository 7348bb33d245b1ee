#include "ucx/messages.hpp"

#include "ucx/status.hpp"

#include <utility>

namespace weft::fabric {

void messages::send(peer_id to, std::uint16_t channel, std::vector<std::byte> payload, send_callback done) {
  const auto answer = [&](const result<void>& outcome) {
    if (done) done(outcome);
  };
  if (payload.size() > max_message_bytes)
    return answer(fail(errc::invalid_argument, "a message of " + std::to_string(payload.size()) +
                                                   " bytes, at most " + std::to_string(max_message_bytes) +
                                                   " go; fetch them instead"));
  auto* peer = peers_.find(to);
  if (peer == nullptr || peer->broken)
    return answer(
        fail(errc::unreachable,
             "no connection to peer " + std::to_string(static_cast<std::uint32_t>(to)) + "; connect again"));
  statistics_.message_out();
  if (!peer->endpoint) {
    to_self_.push_back({to, channel, std::move(payload)});
    return answer(result<void>{});
  }
  auto message = sender_.make(message_kind::message, encode(message_header{peer->next_sequence++, channel}));
  message->staging = std::move(payload);
  message->payload = message->staging;
  message->done = [done = std::move(done)](ucs_status_t status) {
    if (!done) return;
    if (status == UCS_OK) {
      done({});
    } else {
      done(fail(status, "sending a message"));
    }
  };
  sender_.send(peer->endpoint->get(), std::move(message));
}

message_order::deliver messages::deliverer(peer_id from) {
  return [this, from](std::uint16_t channel, std::span<const std::byte> payload) {
    statistics_.message_in();
    handlers_.message(from, channel, payload);
  };
}

void messages::on_message(connection& from, std::span<const std::byte> header,
                          std::span<const std::byte> payload) {
  const auto message = parse_message(header);
  if (!message) return peers_.break_off(from, message.error());
  const bool in_order = payload.size() <= max_message_bytes &&
                        from.inbox.accept(message->sequence, message->channel, payload, deliverer(from.id));
  if (!in_order) peers_.break_off(from, {errc::corrupt, "a peer's messages follow no order"});
}

void messages::deliver_kept(connection& from) {
  from.inbox.open(deliverer(from.id));
}

bool messages::pump() {
  if (to_self_.empty()) return false;
  for (const auto& message : std::exchange(to_self_, {})) {
    statistics_.message_in();
    handlers_.message(message.self, message.channel, message.payload);
  }
  return true;
}

}  // namespace weft::fabric
