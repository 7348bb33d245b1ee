// One tcp connection on 127.0.0.1, blocking: what tcp gives a program that does nothing else.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::bench {

class stream_socket {
 public:
  stream_socket() = default;
  stream_socket(stream_socket&& other) noexcept;
  stream_socket& operator=(stream_socket&& other) noexcept;
  ~stream_socket();

  static result<stream_socket> listen();  // on a port of the system's choice
  static result<stream_socket> connect(std::uint16_t port);
  result<stream_socket> accept() const;

  std::uint16_t port() const;
  explicit operator bool() const { return descriptor_ >= 0; }

  result<void> write_all(std::span<const std::byte> bytes) const;
  result<void> read_all(std::span<std::byte> bytes) const;

 private:
  explicit stream_socket(int descriptor) : descriptor_(descriptor) {}

  int descriptor_ = -1;
};

}  // namespace weft::bench
