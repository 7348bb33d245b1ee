// The messages of the pool between nodes, byte by byte (docs/fabric-protocol.md, 6). Parsing accepts any
// bytes.
#pragma once

#include <weft/actors/messages.hpp>
#include <weft/base/error.hpp>
#include <weft/machines/directory.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::actors::wire {

inline constexpr std::uint16_t pool_channel = 1;  // of the fabric
inline constexpr std::size_t max_items_per_call = 16384;
inline constexpr std::size_t max_holders_per_key = 16;  // of a located key; more are not told

enum class call_kind : std::uint8_t {
  locate = 1,
  lease = 2,
  release = 3,  // without an answer
  offer = 4,
  announce = 5,
  withdraw = 6,
  touch = 7,  // without an answer
  rank = 8,
};
inline constexpr std::size_t call_kinds = 9;  // with the one that is none

enum class call_part : std::uint8_t { question = 0, answer = 1, refusal = 2 };

struct call_header {
  std::uint64_t call = 0;  // of the asking side; an answer repeats it
  call_kind kind = call_kind::locate;
  call_part part = call_part::question;
  errc why = errc::ok;  // of a refusal
};
inline constexpr std::size_t call_header_bytes = 16;

using message = std::vector<std::byte>;

// A message with room for the header, to which one of the bodies below is appended.
message begin();
void set_header(message& whole, const call_header& header);
result<call_header> parse_header(std::span<const std::byte> whole);
inline std::span<const std::byte> body_of(std::span<const std::byte> whole) {
  return whole.subspan(call_header_bytes);
}

void append(message& out, const key_list& keys);
void append(message& out, const lease_request& wanted);
void append(message& out, const lease_reply& reply);
void append(message& out, const offer& what);
void append(message& out, const offer_reply& reply);
void append(message& out, const announcement& news);
void append(message& out, const withdrawal& gone);
void append(message& out, const retrieval_queries& asked);
void append(message& out, const retrieval_scores& scores);
void append_lease(message& out, std::uint64_t lease);
// What a shard found of so many keys.
void append(message& out, const machines::located& found, std::size_t keys);

// `corrupt` where the bytes are not exactly one body of that kind within the limits.
result<key_list> parse_key_list(std::span<const std::byte> body);
result<lease_request> parse_lease_request(std::span<const std::byte> body);
result<lease_reply> parse_lease_reply(std::span<const std::byte> body);
result<offer> parse_offer(std::span<const std::byte> body);
result<offer_reply> parse_offer_reply(std::span<const std::byte> body);
result<announcement> parse_announcement(std::span<const std::byte> body);
result<withdrawal> parse_withdrawal(std::span<const std::byte> body);
result<retrieval_queries> parse_retrieval_queries(std::span<const std::byte> body);
result<retrieval_scores> parse_retrieval_scores(std::span<const std::byte> body);
result<std::uint64_t> parse_lease(std::span<const std::byte> body);
result<locate_reply> parse_locate_reply(std::span<const std::byte> body);

// The same as it would come out of a message.
locate_reply by_key(const machines::located& found, std::size_t keys);

}  // namespace weft::actors::wire
