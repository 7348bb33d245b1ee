#include <weft/fabric/wire/active_message.hpp>
#include <weft/fabric/wire/chunk_plan.hpp>
#include <weft/fabric/wire/message_order.hpp>
#include <weft/fabric/wire/node_address.hpp>
#include <weft/fabric/wire/push_queue.hpp>
#include <weft/fabric/wire/push_sink.hpp>

#include <doctest/doctest.h>

#include "pattern.hpp"

#include <algorithm>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace weft::fabric {

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span{text.data(), text.size()});
}

node_address example_address() {
  node_address address;
  address.host = "10.1.2.3";
  address.port = 4242;
  address.nonce = {0x0123456789abcdefULL, 0xfedcba9876543210ULL};
  address.arena_base = 0x7f0000001000ULL;
  address.arena_bytes = 1 << 30;
  address.rkey = {std::byte{1}, std::byte{2}, std::byte{3}};
  return address;
}

}  // namespace

TEST_CASE("a node address survives the wire") {
  for (const auto* host : {"10.1.2.3", "2001:db8::7", ""}) {
    auto address = example_address();
    address.host = host;
    const auto encoded = encode(address);
    REQUIRE(encoded);
    const auto parsed = parse_node_address(bytes_of(*encoded));
    REQUIRE(parsed);
    CHECK(parsed->host == address.host);
    CHECK(parsed->port == address.port);
    CHECK(parsed->nonce == address.nonce);
    CHECK(parsed->arena_base == address.arena_base);
    CHECK(parsed->arena_bytes == address.arena_bytes);
    CHECK(parsed->rkey == address.rkey);
  }
}

TEST_CASE("a node address has the bytes that the protocol says") {
  const auto encoded = encode(example_address()).value();
  const std::string expected(
      "WFA1\x02\x00\x04\x00\x0a\x01\x02\x03\0\0\0\0\0\0\0\0\0\0\0\0\x92\x10\x03\x00\0\0\0\0"
      "\xef\xcd\xab\x89\x67\x45\x23\x01\x10\x32\x54\x76\x98\xba\xdc\xfe"
      "\x00\x10\x00\x00\x00\x7f\x00\x00\x00\x00\x00\x40\x00\x00\x00\x00\x01\x02\x03",
      67);
  CHECK(encoded == expected);
}

TEST_CASE("addresses that do not fit are refused when written") {
  auto address = example_address();
  address.host = "node-7.example";
  CHECK(encode(address).error().code == errc::invalid_argument);
  address = example_address();
  address.rkey.resize(max_rkey_bytes + 1);
  CHECK(encode(address).error().code == errc::invalid_argument);
  address.rkey.resize(max_rkey_bytes);
  CHECK(encode(address).value().size() <= max_address_bytes);
}

TEST_CASE("cut, prolonged and altered addresses are refused or harmless") {
  const auto good = encode(example_address()).value();
  for (std::size_t length = 0; length < good.size(); ++length)
    CHECK(!parse_node_address(bytes_of(good.substr(0, length))));
  CHECK(!parse_node_address(bytes_of(good + "x")));
  auto other_version = good;
  other_version[4] = 9;
  CHECK(parse_node_address(bytes_of(other_version)).error().code == errc::unsupported);
  auto wrapping = good;
  wrapping.replace(56, 8, 8, '\xff');
  CHECK(!parse_node_address(bytes_of(wrapping)));
  for (const std::uint64_t too_many : {0, 1}) {
    auto at_the_end = example_address();
    at_the_end.arena_base =
        std::numeric_limits<std::uint64_t>::max() - at_the_end.readable_bytes() + too_many;
    CHECK(parse_node_address(bytes_of(encode(at_the_end).value())).has_value() == (too_many == 0));
  }

  std::mt19937 random{1};
  for (int round = 0; round < 20'000; ++round) {
    auto altered = good;
    for (int i = 0; i < 3; ++i)
      altered[random() % altered.size()] = static_cast<char>(random());
    const auto parsed = parse_node_address(bytes_of(altered));
    if (parsed) CHECK(parsed->rkey.size() <= max_rkey_bytes);
  }
}

TEST_CASE("headers survive the wire, other lengths do not") {
  const auto hello = parse_hello(encode(hello_header{1, {2, 3}}).view());
  REQUIRE(hello);
  CHECK(hello->version == 1);
  CHECK(hello->receiver_nonce == id128{2, 3});
  const auto message = parse_message(encode(message_header{77, 8}).view());
  REQUIRE(message);
  CHECK(message->sequence == 77);
  CHECK(message->channel == 8);
  const auto request = parse_fetch_request(encode(fetch_request_header{5, 4096, 6}).view());
  REQUIRE(request);
  CHECK(request->operation == 5);
  CHECK(request->chunk_bytes == 4096);
  CHECK(request->range_count == 6);
  const auto data = parse_fetch_data(encode(fetch_data_header{9, 10}).view());
  REQUIRE(data);
  CHECK(data->operation == 9);
  CHECK(data->chunk == 10);
  const auto refused = parse_fetch_refused(encode(fetch_refused_header{4, refusal::out_of_bounds}).view());
  REQUIRE(refused);
  CHECK(refused->operation == 4);
  CHECK(refused->reason == refusal::out_of_bounds);
  const auto cancel = parse_fetch_cancel(encode(fetch_cancel_header{3}).view());
  REQUIRE(cancel);
  CHECK(cancel->operation == 3);

  const std::vector<std::byte> zeros(64);
  for (std::size_t size = 0; size <= zeros.size(); ++size) {
    const auto bytes = std::span{zeros}.first(size);
    CHECK(!parse_hello(bytes));
    CHECK(parse_message(bytes).has_value() == (size == 16));
    CHECK(parse_fetch_request(bytes).has_value() == (size == 16));
    CHECK(parse_fetch_data(bytes).has_value() == (size == 16));
    CHECK(!parse_fetch_refused(bytes));
    CHECK(parse_fetch_cancel(bytes).has_value() == (size == 8));
  }
}

TEST_CASE("an owner refuses ranges outside its arena and requests that do not add up") {
  const auto ask = [](std::vector<wire_range> ranges, fetch_request_header header) {
    std::vector<std::byte> payload;
    for (const auto& range : ranges)
      append(payload, range);
    push_queue queue;
    return queue.accept(header, payload, 10'000);
  };
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  CHECK(ask({{0, 10'000}}, {1, 4096, 1}));
  CHECK(ask({{10'000, 0}}, {1, 4096, 1}));
  CHECK(ask({{0, 10'001}}, {1, 4096, 1}).error() == refusal::out_of_bounds);
  CHECK(ask({{0, 5}, {9'999, 2}}, {1, 4096, 2}).error() == refusal::out_of_bounds);
  CHECK(ask({{most, 2}}, {1, 4096, 1}).error() == refusal::out_of_bounds);
  CHECK(ask({{10, most}}, {1, 4096, 1}).error() == refusal::out_of_bounds);
  CHECK(ask({{0, 1}}, {1, 4096, 2}).error() == refusal::malformed);
  CHECK(ask({}, {1, 4096, 0}).error() == refusal::malformed);
  CHECK(ask({{0, 1}}, {1, min_chunk_bytes - 1, 1}).error() == refusal::malformed);
  CHECK(ask({{0, 1}}, {1, max_chunk_bytes + 1, 1}).error() == refusal::malformed);
  CHECK(ask({{0, 1}}, {1, 4096, max_fetch_ranges + 1}).error() == refusal::malformed);
}

TEST_CASE("an owner keeps a bounded number of requests") {
  push_queue queue;
  std::vector<std::byte> payload;
  append(payload, {0, 10});
  for (std::uint64_t i = 0; i < push_queue::max_waiting; ++i)
    REQUIRE(queue.accept({i, 4096, 1}, payload, 10'000));
  CHECK(queue.accept({9, 4096, 1}, payload, 10'000).error() == refusal::too_many_waiting);
  queue.cancel(0);
  CHECK(queue.accept({9999, 4096, 1}, payload, 10'000));
}

TEST_CASE("requests are served in turn, cancelled ones no more") {
  std::vector<std::byte> arena(1 << 20);
  std::vector<std::byte> payload;
  append(payload, {0, 3 * 4096});
  push_queue queue;
  for (const std::uint64_t operation : {1, 2, 3})
    REQUIRE(queue.accept({operation, 4096, 1}, payload, arena.size()));
  std::vector<std::uint64_t> order;
  std::vector<std::byte> staging;
  for (int i = 0; i < 3; ++i)
    order.push_back(queue.next(arena, staging).header.operation);
  queue.cancel(2);
  while (!queue.empty())
    order.push_back(queue.next(arena, staging).header.operation);
  CHECK(order == std::vector<std::uint64_t>{1, 2, 3, 1, 3, 1, 3});
}

TEST_CASE("what an owner cuts a receiver puts together, in any order") {
  std::mt19937 random{3};
  std::vector<std::byte> owner(1 << 20);
  testing::fill_with_pattern(owner);
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    const std::uint32_t chunk_bytes = min_chunk_bytes + random() % 9000;
    std::vector<fetch_range> ranges(1 + random() % 40);
    std::vector<std::uint64_t> lengths;
    std::vector<std::byte> payload;
    std::uint64_t local = 0;
    for (auto& range : ranges) {
      const std::uint64_t length = random() % 4 == 0 ? 0 : random() % 20'000;
      range = {random() % (owner.size() - length), length, local};
      local += length;
      lengths.push_back(length);
      append(payload, {range.remote_offset, length});
    }
    auto plan = chunk_plan::make(lengths, chunk_bytes);
    REQUIRE(plan);
    push_sink sink{ranges, *plan};
    push_queue queue;
    REQUIRE(queue.accept({1, chunk_bytes, static_cast<std::uint32_t>(ranges.size())}, payload, owner.size()));

    struct sent_chunk {
      std::uint32_t index;
      std::vector<std::byte> bytes;
    };
    std::vector<sent_chunk> chunks;
    std::vector<std::byte> staging;
    while (!queue.empty()) {
      const auto chunk = queue.next(owner, staging);
      chunks.push_back({chunk.header.chunk, {chunk.bytes.begin(), chunk.bytes.end()}});
    }
    std::shuffle(chunks.begin(), chunks.end(), random);

    std::vector<std::byte> arena(local + 1);
    std::uint64_t accepted = 0;
    for (const auto& chunk : chunks) {
      CHECK(!sink.complete());
      CHECK(sink.accept(chunk.index, std::span{chunk.bytes}.first(chunk.bytes.size() - 1), arena) == 0);
      accepted += sink.accept(chunk.index, chunk.bytes, arena);
      CHECK(sink.accept(chunk.index, chunk.bytes, arena) == 0);
    }
    CHECK(sink.accept(plan->chunk_count(), {}, arena) == 0);
    CHECK(sink.complete());
    CHECK(accepted == local);
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      CHECK(sink.range_complete(i));
      const auto& range = ranges[i];
      CHECK(testing::is_pattern(std::span{arena}.subspan(range.local_offset, range.length_bytes),
                                range.remote_offset));
    }
  }
}

TEST_CASE("a range is complete when the last of its chunks is") {
  const std::vector<fetch_range> ranges{{0, 100, 0}, {0, 0, 0}, {0, 8000, 100}, {0, 50, 8100}};
  push_sink sink{ranges, chunk_plan::make({100, 0, 8000, 50}, 4096).value()};
  std::vector<std::byte> arena(8150);
  const std::vector<std::byte> bytes(4096);
  CHECK(sink.accept(1, std::span{bytes}.first(8150 - 4096), arena) == 8150 - 4096);
  CHECK(!sink.range_complete(0));
  CHECK(sink.range_complete(1));
  CHECK(!sink.range_complete(2));
  CHECK(sink.range_complete(3));
  CHECK(sink.accept(0, bytes, arena) == 4096);
  CHECK(sink.range_complete(0));
  CHECK(sink.range_complete(2));
}

TEST_CASE("plans that overflow are refused") {
  constexpr auto most = std::numeric_limits<std::uint64_t>::max();
  CHECK(!chunk_plan::make({most, 1}, 4096));
  CHECK(!chunk_plan::make({most}, 4096));
  CHECK(chunk_plan::make({}, 4096).value().chunk_count() == 0);
  CHECK(chunk_plan::make({0, 0}, 4096).value().chunk_count() == 0);
}

TEST_CASE("messages are put in order and what breaks the order is told") {
  std::vector<std::uint16_t> heard;
  const auto hear = [&](std::uint16_t channel, std::span<const std::byte>) { heard.push_back(channel); };
  message_order order;
  CHECK(order.accept(0, 0, {}, hear));
  CHECK(order.accept(2, 2, {}, hear));
  CHECK(order.accept(3, 3, {}, hear));
  CHECK(heard == std::vector<std::uint16_t>{0});
  CHECK(!order.accept(0, 9, {}, hear));
  CHECK(!order.accept(3, 9, {}, hear));
  CHECK(order.accept(1, 1, {}, hear));
  CHECK(heard == std::vector<std::uint16_t>{0, 1, 2, 3});

  message_order held;
  held.hold();
  CHECK(held.accept(1, 1, {}, hear));
  CHECK(held.accept(0, 0, {}, hear));
  CHECK(heard.size() == 4);
  held.open(hear);
  CHECK(heard == std::vector<std::uint16_t>{0, 1, 2, 3, 0, 1});

  message_order flooded;
  for (std::uint64_t i = 1; i <= message_order::max_kept_messages; ++i)
    CHECK(flooded.accept(i, 0, {}, hear));
  CHECK(!flooded.accept(message_order::max_kept_messages + 1, 0, {}, hear));
}

}  // namespace weft::fabric
