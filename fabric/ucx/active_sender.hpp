// Sends active messages eagerly and keeps what UCX still reads until it is done with it.
#pragma once

#include <weft/fabric/wire/active_message.hpp>

#include "ucx/endpoint.hpp"

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace weft::fabric {

class active_sender {
 public:
  using completion = std::function<void(ucs_status_t)>;

  // One message on its way. Reused, with the capacity of its buffer.
  struct message {
    message_kind kind = message_kind::message;
    header_bytes header;
    std::vector<std::byte> staging;      // payload owned by the message, or
    std::span<const std::byte> payload;  // wherever it lies; stays until completion
    completion done;

   private:
    friend class active_sender;
    active_sender* owner_ = nullptr;
  };
  using message_pointer = std::unique_ptr<message>;

  active_sender() = default;
  active_sender(const active_sender&) = delete;
  active_sender& operator=(const active_sender&) = delete;

  message_pointer make(message_kind kind, const header_bytes& header);

  // `done`, if set, is called exactly once, perhaps before `send` returns.
  void send(ucp_ep_h to, message_pointer outgoing);

  // Messages that UCX still holds.
  std::size_t in_flight() const { return in_flight_; }

 private:
  static void on_sent(void* request, ucs_status_t status, void* argument);
  void finish(message_pointer outgoing, ucs_status_t status);

  std::vector<message_pointer> free_;
  std::size_t in_flight_ = 0;
};

}  // namespace weft::fabric
