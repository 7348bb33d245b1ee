#include <weft/fabric/wire/active_message.hpp>

#include "wire/little_endian.hpp"

#include <string>

namespace weft::fabric {

namespace {

constexpr std::uint32_t hello_magic = 0x31484657;  // "WFH1"
constexpr std::size_t wire_range_bytes = 16;

result<void> expect_size(std::span<const std::byte> bytes, std::size_t size, const char* what) {
  if (bytes.size() == size) return {};
  return fail(errc::corrupt, std::string{what} + " header of " + std::to_string(bytes.size()) +
                                 " bytes instead of " + std::to_string(size));
}

}  // namespace

header_bytes encode(const hello_header& header) {
  header_bytes out{.size = 24};
  put(out.bytes.data(), hello_magic);
  put(out.bytes.data() + 4, header.version);
  put(out.bytes.data() + 8, header.receiver_nonce.high);
  put(out.bytes.data() + 16, header.receiver_nonce.low);
  return out;
}

header_bytes encode(const message_header& header) {
  header_bytes out{.size = 16};
  put(out.bytes.data(), header.sequence);
  put(out.bytes.data() + 8, header.channel);
  return out;
}

header_bytes encode(const fetch_request_header& header) {
  header_bytes out{.size = 16};
  put(out.bytes.data(), header.operation);
  put(out.bytes.data() + 8, header.chunk_bytes);
  put(out.bytes.data() + 12, header.range_count);
  return out;
}

header_bytes encode(const fetch_data_header& header) {
  header_bytes out{.size = 16};
  put(out.bytes.data(), header.operation);
  put(out.bytes.data() + 8, header.chunk);
  return out;
}

header_bytes encode(const fetch_refused_header& header) {
  header_bytes out{.size = 16};
  put(out.bytes.data(), header.operation);
  put(out.bytes.data() + 8, static_cast<std::uint16_t>(header.reason));
  return out;
}

header_bytes encode(const fetch_cancel_header& header) {
  header_bytes out{.size = 8};
  put(out.bytes.data(), header.operation);
  return out;
}

result<hello_header> parse_hello(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 24, "a hello"); !ok) return tl::unexpected{ok.error()};
  if (get<std::uint32_t>(bytes.data()) != hello_magic)
    return fail(errc::corrupt, "a hello that weft did not write");
  return hello_header{get<std::uint16_t>(bytes.data() + 4),
                      {get<std::uint64_t>(bytes.data() + 8), get<std::uint64_t>(bytes.data() + 16)}};
}

result<message_header> parse_message(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 16, "a message"); !ok) return tl::unexpected{ok.error()};
  return message_header{get<std::uint64_t>(bytes.data()), get<std::uint16_t>(bytes.data() + 8)};
}

result<fetch_request_header> parse_fetch_request(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 16, "a fetch request"); !ok) return tl::unexpected{ok.error()};
  return fetch_request_header{get<std::uint64_t>(bytes.data()), get<std::uint32_t>(bytes.data() + 8),
                              get<std::uint32_t>(bytes.data() + 12)};
}

result<fetch_data_header> parse_fetch_data(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 16, "a fetch data"); !ok) return tl::unexpected{ok.error()};
  return fetch_data_header{get<std::uint64_t>(bytes.data()), get<std::uint32_t>(bytes.data() + 8)};
}

result<fetch_refused_header> parse_fetch_refused(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 16, "a fetch refused"); !ok) return tl::unexpected{ok.error()};
  const auto reason = get<std::uint16_t>(bytes.data() + 8);
  if (reason < 1 || reason > 3) return fail(errc::corrupt, "an unknown refusal " + std::to_string(reason));
  return fetch_refused_header{get<std::uint64_t>(bytes.data()), static_cast<refusal>(reason)};
}

result<fetch_cancel_header> parse_fetch_cancel(std::span<const std::byte> bytes) {
  if (auto ok = expect_size(bytes, 8, "a fetch cancel"); !ok) return tl::unexpected{ok.error()};
  return fetch_cancel_header{get<std::uint64_t>(bytes.data())};
}

void append(std::vector<std::byte>& out, const wire_range& range) {
  const auto at = out.size();
  out.resize(at + wire_range_bytes);
  put(out.data() + at, range.offset);
  put(out.data() + at + 8, range.length);
}

tl::expected<std::vector<wire_range>, refusal> parse_ranges(const fetch_request_header& header,
                                                            std::span<const std::byte> payload,
                                                            std::uint64_t arena_bytes) {
  const bool counts = header.range_count >= 1 && header.range_count <= max_fetch_ranges &&
                      payload.size() == header.range_count * wire_range_bytes;
  if (!counts || header.chunk_bytes < min_chunk_bytes || header.chunk_bytes > max_chunk_bytes)
    return tl::unexpected{refusal::malformed};
  std::vector<wire_range> ranges(header.range_count);
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const auto* at = payload.data() + i * wire_range_bytes;
    ranges[i] = {get<std::uint64_t>(at), get<std::uint64_t>(at + 8)};
    if (ranges[i].offset > arena_bytes || ranges[i].length > arena_bytes - ranges[i].offset)
      return tl::unexpected{refusal::out_of_bounds};
  }
  return ranges;
}

}  // namespace weft::fabric
