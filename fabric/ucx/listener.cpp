#include "ucx/listener.hpp"

#include "ucx/socket_address.hpp"
#include "ucx/status.hpp"
#include <unistd.h>

#include <cstring>

namespace weft::fabric {

namespace {

// UCX would say it too, but to standard output.
result<void> check_free(const socket_address& address, const std::string& where) {
  const int socket_fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return fail(errc::io, std::string{"opening a socket: "} + std::strerror(errno));
  const int on = 1;
  setsockopt(socket_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  const bool bound = bind(socket_fd, address.get(), address.size) == 0;
  const auto why = errno;
  close(socket_fd);
  if (bound) return {};
  return fail(errc::io, "listening on " + where + ": " + std::strerror(why) + "; port 0 takes a free one");
}

}  // namespace

result<ucx_listener> ucx_listener::make(const ucx_worker& worker, const std::string& host,
                                        std::uint16_t port) {
  auto address = make_socket_address(host, port);
  if (!address) return tl::unexpected{address.error()};
  const auto where = host + " port " + std::to_string(port);
  if (auto free = check_free(*address, where); !free) return tl::unexpected{free.error()};
  auto room = std::make_unique<waiting_room>();
  ucp_listener_params_t params{};
  params.field_mask = UCP_LISTENER_PARAM_FIELD_SOCK_ADDR | UCP_LISTENER_PARAM_FIELD_CONN_HANDLER;
  params.sockaddr = {address->get(), address->size};
  params.conn_handler = {on_request, room.get()};
  if (const auto status = ucp_listener_create(worker.get(), &params, &room->listener); status != UCS_OK)
    return fail(errc::io, "listening on " + where + ": " + ucs_status_string(status));
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
