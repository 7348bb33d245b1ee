#include "stream_socket.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace weft::bench {

namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

tl::unexpected<error> failed(const char* what) {
  return fail(errc::io, std::string("a plain tcp stream: ") + what + ": " + strerror(errno));
}

}  // namespace

stream_socket::stream_socket(stream_socket&& other) noexcept
    : descriptor_(std::exchange(other.descriptor_, -1)) {}

stream_socket& stream_socket::operator=(stream_socket&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  return *this;
}

stream_socket::~stream_socket() {
  if (descriptor_ >= 0) close(descriptor_);
}

result<stream_socket> stream_socket::listen() {
  stream_socket made{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  auto address = loopback(0);
  if (!made || bind(made.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(made.descriptor_, 1) != 0)
    return failed("listening");
  return made;
}

result<stream_socket> stream_socket::connect(std::uint16_t port) {
  stream_socket made{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  auto address = loopback(port);
  if (!made || ::connect(made.descriptor_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return failed("connecting");
  return made;
}

result<stream_socket> stream_socket::accept() const {
  stream_socket made{::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC)};
  if (!made) return failed("accepting");
  return made;
}

std::uint16_t stream_socket::port() const {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &size);
  return ntohs(address.sin_port);
}

result<void> stream_socket::write_all(std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto written = ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (written < 0 && errno != EINTR) return failed("writing");
    if (written > 0) bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
  return {};
}

result<void> stream_socket::read_all(std::span<std::byte> bytes) const {
  while (!bytes.empty()) {
    const auto read = ::recv(descriptor_, bytes.data(), bytes.size(), 0);
    if (read == 0 || (read < 0 && errno != EINTR)) return failed("reading");
    if (read > 0) bytes = bytes.subspan(static_cast<std::size_t>(read));
  }
  return {};
}

}  // namespace weft::bench
