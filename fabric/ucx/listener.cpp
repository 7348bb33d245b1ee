#include "ucx/listener.hpp"

#include "ucx/socket_address.hpp"
#include "ucx/status.hpp"

namespace weft::fabric {

result<ucx_listener> ucx_listener::make(const ucx_worker& worker, const std::string& host,
                                        std::uint16_t port) {
  auto address = make_socket_address(host, port);
  if (!address) return tl::unexpected{address.error()};
  auto room = std::make_unique<waiting_room>();
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr = {address->get(), address->size};
  params.conn_handler = {on_request, room.get()};
  if (const auto status = ucp_listener_create(worker.get(), &params, &room->listener); status != UCS_OK)
    return fail(errc::io, "listening on " + host + " port " + std::to_string(port) + ": " +
                              ucs_status_string(status) + "; is the port in use? port 0 takes a free one");
  ucx_listener listener{worker.handle(), std::move(room), port};
  ucp_listener_attr_t attributes{};
  attributes.field_mask = UCP_LISTENER_ATTR_FIELD_SOCKADDR;
  if (const auto status = ucp_listener_query(listener.room_->listener, &attributes); status != UCS_OK)
    return fail(status, "asking UCX for the port it listens on");
  listener.port_ = port_of(attributes.sockaddr);
  return listener;
}

ucx_listener::~ucx_listener() {
  if (!room_) return;
  while (auto* request = take())
    ucp_listener_reject(room_->listener, request);
  ucp_listener_destroy(room_->listener);
}

ucp_conn_request_h ucx_listener::take() {
  if (room_->requests.empty()) return nullptr;
  auto* request = room_->requests.front();
  room_->requests.pop_front();
  return request;
}

void ucx_listener::on_request(ucp_conn_request_h request, void* argument) {
  auto* room = static_cast<waiting_room*>(argument);
  if (room->requests.size() >= max_waiting) {
    ucp_listener_reject(room->listener, request);
  } else {
    room->requests.push_back(request);
  }
}

}  // namespace weft::fabric
