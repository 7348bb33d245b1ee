#include <weft/schema/byte_stream.hpp>

#include <algorithm>

namespace weft::schema {

kj::Promise<void> send_bytes(wire::ByteSink::Client sink, std::span<const std::byte> bytes) {
  if (bytes.empty()) return kj::READY_NOW;
  const auto size = std::min<std::size_t>(bytes.size(), wire::CHUNK_BYTES);
  auto request = sink.writeRequest(capnp::MessageSize{size / sizeof(capnp::word) + 16, 0});
  request.setChunk({reinterpret_cast<const kj::byte*>(bytes.data()), size});
  return request.send().then(
      [sink = kj::mv(sink), rest = bytes.subspan(size)]() mutable { return send_bytes(kj::mv(sink), rest); });
}

}  // namespace weft::schema
