#include "wire_target.hpp"

#include <weft/actors/pool_wire.hpp>
#include <weft/fabric/wire/active_message.hpp>
#include <weft/fabric/wire/message_order.hpp>
#include <weft/fabric/wire/node_address.hpp>
#include <weft/fabric/wire/push_queue.hpp>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace weft::fuzz {

namespace {

constexpr std::size_t arena_bytes = 64 * 1024;
constexpr std::size_t request_header_bytes = 16;

void require(bool holds, const char* what) {
  if (!holds) throw std::logic_error(what);
}

bool read_address(std::span<const std::byte> bytes) {
  const auto address = fabric::parse_node_address(bytes);
  if (!address) return false;
  const auto encoded = fabric::encode(*address);
  require(encoded.has_value(), "an accepted address cannot be written");
  const auto again = fabric::parse_node_address(std::as_bytes(std::span{*encoded}));
  require(again && again->host == address->host && again->port == address->port &&
              again->nonce == address->nonce && again->arena_base == address->arena_base &&
              again->arena_bytes == address->arena_bytes && again->rkey == address->rkey,
          "an address changes on its way");
  return true;
}

// Bytes that a parser does not look at may differ; what it read may not.
template <class Parse>
bool read_header(std::span<const std::byte> bytes, Parse parse) {
  const auto header = parse(bytes);
  if (!header) return false;
  const auto encoded = fabric::encode(*header);
  const auto again = parse(encoded.view());
  require(again.has_value(), "an accepted header cannot be read again");
  const auto encoded_again = fabric::encode(*again);
  require(std::ranges::equal(encoded.view(), encoded_again.view()), "a header changes on its way");
  return true;
}

// All that a request asks for, in order, as long as the chunks are few.
bool serve_request(std::span<const std::byte> bytes) {
  if (bytes.size() < request_header_bytes) return false;
  const auto header = fabric::parse_fetch_request(bytes.first(request_header_bytes));
  if (!header) return false;
  const auto payload = bytes.subspan(request_header_bytes);
  fabric::push_queue queue;
  const auto taken = queue.accept(*header, payload, arena_bytes);
  const auto ranges = fabric::parse_ranges(*header, payload, arena_bytes);
  require(!taken || ranges.has_value(), "a request was taken whose ranges are wrong");
  if (!taken) return false;

  std::vector<std::byte> arena(arena_bytes);
  for (std::size_t i = 0; i < arena.size(); ++i)
    arena[i] = static_cast<std::byte>(i * 31 + i / 256);
  std::vector<std::byte> staging;
  std::vector<std::byte> wanted;
  constexpr std::size_t most_bytes = std::size_t{1} << 20;
  for (const auto& range : *ranges) {
    if (wanted.size() > most_bytes) break;
    const auto first = arena.begin() + static_cast<std::ptrdiff_t>(range.offset);
    wanted.insert(wanted.end(), first, first + static_cast<std::ptrdiff_t>(range.length));
  }
  std::size_t sent = 0;
  while (!queue.empty() && sent < most_bytes) {
    const auto chunk = queue.next(arena, staging);
    require(chunk.header.operation == header->operation, "a chunk of another operation");
    require(!chunk.bytes.empty() && chunk.bytes.size() <= header->chunk_bytes, "a chunk of a wrong size");
    const std::size_t known = std::min(chunk.bytes.size(), wanted.size() - std::min(sent, wanted.size()));
    require(std::equal(chunk.bytes.begin(), chunk.bytes.begin() + static_cast<std::ptrdiff_t>(known),
                       wanted.begin() + static_cast<std::ptrdiff_t>(std::min(sent, wanted.size()))),
            "a chunk with other bytes than were asked for");
    sent += chunk.bytes.size();
  }
  if (queue.empty()) require(sent == wanted.size(), "a request that was served only in part");
  return true;
}

// One byte of sequence, one of length, then the payload. Messages must come out in their order.
bool order_messages(std::span<const std::byte> bytes) {
  fabric::message_order order;
  std::uint64_t expected = 0;
  const auto deliver = [&](std::uint16_t channel, std::span<const std::byte>) {
    require(channel == expected, "a message out of order");
    ++expected;
  };
  if (!bytes.empty() && (std::to_integer<unsigned>(bytes[0]) & 1U) != 0) order.hold();
  while (bytes.size() >= 2) {
    const auto sequence = std::to_integer<std::uint8_t>(bytes[0]);
    const std::size_t length = std::min(std::to_integer<std::size_t>(bytes[1]), bytes.size() - 2);
    order.accept(sequence, sequence, bytes.subspan(2, length), deliver);
    bytes = bytes.subspan(2 + length);
  }
  order.open(deliver);
  return expected > 0;
}

// A body that is accepted is written again with the same bytes but for reserved ones, so it reads the same.
template <class Parse>
bool read_body(std::span<const std::byte> bytes, Parse parse) {
  const auto body = parse(bytes);
  if (!body) return false;
  actors::wire::message again;
  actors::wire::append(again, *body);
  require(again.size() == bytes.size(), "an accepted pool message has another size when it is written again");
  const auto twice = parse(again);
  require(twice.has_value(), "an accepted pool message cannot be read again");
  actors::wire::message third;
  actors::wire::append(third, *twice);
  require(std::ranges::equal(again, third), "a pool message changes on its way");
  return true;
}

// A whole message of the pool: header, then the body of its kind and part.
bool read_pool_message(std::span<const std::byte> bytes) {
  using namespace actors::wire;
  const auto header = parse_header(bytes);
  if (!header) return false;
  const auto body = body_of(bytes);
  const bool answers = header->part == call_part::answer;
  switch (header->kind) {
    case call_kind::locate:
      return answers ? parse_locate_reply(body).has_value() : read_body(body, parse_key_list);
    case call_kind::lease:
      return answers ? read_body(body, parse_lease_reply) : read_body(body, parse_lease_request);
    case call_kind::release:
      return parse_lease(body).has_value();
    case call_kind::offer:
      return answers ? read_body(body, parse_offer_reply) : read_body(body, parse_offer);
    case call_kind::announce:
      return read_body(body, parse_announcement);
    case call_kind::withdraw:
      return read_body(body, parse_withdrawal);
    case call_kind::touch:
      return read_body(body, parse_key_list);
    case call_kind::rank:
      return answers ? read_body(body, parse_retrieval_scores) : read_body(body, parse_retrieval_queries);
  }
  return false;
}

}  // namespace

bool read_as_fabric_bytes(std::span<const std::byte> bytes) {
  if (bytes.empty()) return false;
  // An own allocation of exactly this size, so that a sanitizer sees one byte too many.
  const std::vector<std::byte> rest(bytes.begin() + 1, bytes.end());
  switch (std::to_integer<unsigned>(bytes[0])) {
    case 0:
      return read_address(rest);
    case 1:
      return read_header(rest, fabric::parse_hello);
    case 2:
      return read_header(rest, fabric::parse_message);
    case 3: {
      const bool header = read_header(rest, fabric::parse_fetch_request);
      return serve_request(rest) || header;
    }
    case 4:
      return read_header(rest, fabric::parse_fetch_data);
    case 5:
      return read_header(rest, fabric::parse_fetch_refused);
    case 6:
      return read_header(rest, fabric::parse_fetch_cancel);
    case 7:
      return order_messages(rest);
    case 8:
      return read_pool_message(rest);
    default:
      return false;
  }
}

}  // namespace weft::fuzz
