// Headers of the active messages between nodes (docs/fabric-protocol.md, 3). Parsing accepts any bytes.
#pragma once

#include <weft/base/error.hpp>
#include <weft/base/id128.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::fabric {

enum class message_kind : std::uint8_t {
  hello = 1,
  message = 2,
  fetch_request = 3,
  fetch_data = 4,
  fetch_refused = 5,
  fetch_cancel = 6,
};

inline constexpr std::uint32_t min_chunk_bytes = 4096;
inline constexpr std::uint32_t max_chunk_bytes = 1U << 20;
inline constexpr std::uint32_t max_fetch_ranges = 65536;

struct hello_header {
  std::uint16_t version = 0;
  id128 receiver_nonce;
};

struct message_header {
  std::uint64_t sequence = 0;
  std::uint16_t channel = 0;
};

struct fetch_request_header {
  std::uint64_t operation = 0;
  std::uint32_t chunk_bytes = 0;
  std::uint32_t range_count = 0;
};

struct fetch_data_header {
  std::uint64_t operation = 0;
  std::uint32_t chunk = 0;
};

enum class refusal : std::uint16_t { malformed = 1, out_of_bounds = 2, too_many_waiting = 3 };

struct fetch_refused_header {
  std::uint64_t operation = 0;
  refusal reason = refusal::malformed;
};

struct fetch_cancel_header {
  std::uint64_t operation = 0;
};

// A range of the owner's arena.
struct wire_range {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};

// Bytes of one header, without the heap.
struct header_bytes {
  std::array<std::byte, 24> bytes{};
  std::size_t size = 0;

  std::span<const std::byte> view() const { return {bytes.data(), size}; }
};

header_bytes encode(const hello_header& header);
header_bytes encode(const message_header& header);
header_bytes encode(const fetch_request_header& header);
header_bytes encode(const fetch_data_header& header);
header_bytes encode(const fetch_refused_header& header);
header_bytes encode(const fetch_cancel_header& header);

// Fail with `corrupt`.
result<hello_header> parse_hello(std::span<const std::byte> bytes);
result<message_header> parse_message(std::span<const std::byte> bytes);
result<fetch_request_header> parse_fetch_request(std::span<const std::byte> bytes);
result<fetch_data_header> parse_fetch_data(std::span<const std::byte> bytes);
result<fetch_refused_header> parse_fetch_refused(std::span<const std::byte> bytes);
result<fetch_cancel_header> parse_fetch_cancel(std::span<const std::byte> bytes);

void append(std::vector<std::byte>& out, const wire_range& range);

// The ranges of a request's payload, all within an arena of `arena_bytes`; else why it is refused.
tl::expected<std::vector<wire_range>, refusal> parse_ranges(const fetch_request_header& header,
                                                            std::span<const std::byte> payload,
                                                            std::uint64_t arena_bytes);

}  // namespace weft::fabric
