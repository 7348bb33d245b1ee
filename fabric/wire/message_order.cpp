#include <weft/fabric/wire/message_order.hpp>

#include <utility>

namespace weft::fabric {

bool message_order::accept(std::uint64_t sequence, std::uint16_t channel, std::span<const std::byte> payload,
                           const deliver& to) {
  if (sequence < next_) return false;
  if (held_ || sequence > next_) return keep(sequence, channel, payload);
  ++next_;
  to(channel, payload);
  deliver_kept(to);
  return true;
}

void message_order::open(const deliver& to) {
  held_ = false;
  deliver_kept(to);
}

bool message_order::keep(std::uint64_t sequence, std::uint16_t channel, std::span<const std::byte> payload) {
  if (kept_.size() >= max_kept_messages || payload.size() > max_kept_bytes - kept_bytes_) return false;
  const auto [at, fresh] =
      kept_.try_emplace(sequence, kept_message{channel, {payload.begin(), payload.end()}});
  if (fresh) kept_bytes_ += payload.size();
  return fresh;
}

void message_order::deliver_kept(const deliver& to) {
  for (auto first = kept_.begin(); first != kept_.end() && first->first == next_; first = kept_.begin()) {
    const auto message = std::move(first->second);
    kept_.erase(first);
    kept_bytes_ -= message.payload.size();
    ++next_;
    to(message.channel, message.payload);
  }
}

}  // namespace weft::fabric
