#include "ucx/active_sender.hpp"

#include <utility>

namespace weft::fabric {

namespace {
constexpr std::size_t kept_messages_max = 256;
constexpr std::size_t kept_staging_bytes_max = std::size_t{1} << 20;
}  // namespace

active_sender::message_pointer active_sender::make(message_kind kind, const header_bytes& header) {
  message_pointer out;
  if (free_.empty()) {
    out = std::make_unique<message>();
  } else {
    out = std::move(free_.back());
    free_.pop_back();
  }
  out->kind = kind;
  out->header = header;
  out->owner_ = this;
  return out;
}

void active_sender::send(ucp_ep_h to, message_pointer outgoing) {
  auto* raw = outgoing.release();
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS | UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  // Eager, always: docs/fabric-protocol.md, 4.
  params.flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_EAGER;
  params.cb.send = on_sent;
  params.user_data = raw;
  ++in_flight_;
  auto* request = ucp_am_send_nbx(to, static_cast<unsigned>(raw->kind), raw->header.bytes.data(),
                                  raw->header.size, raw->payload.data(), raw->payload.size(), &params);
  if (UCS_PTR_IS_PTR(request)) return;
  finish(message_pointer{raw}, UCS_PTR_STATUS(request));
}

void active_sender::on_sent(void* request, ucs_status_t status, void* argument) {
  message_pointer sent{static_cast<message*>(argument)};
  auto* owner = sent->owner_;
  ucp_request_free(request);
  owner->finish(std::move(sent), status);
}

void active_sender::finish(message_pointer outgoing, ucs_status_t status) {
  --in_flight_;
  auto done = std::move(outgoing->done);
  outgoing->done = nullptr;
  outgoing->payload = {};
  if (free_.size() < kept_messages_max && outgoing->staging.capacity() <= kept_staging_bytes_max)
    free_.push_back(std::move(outgoing));
  if (done) done(status);
}

}  // namespace weft::fabric
