#include <weft/actors/pool_wire.hpp>

#include <doctest/doctest.h>

#include <functional>

using namespace weft;
using namespace weft::actors;

namespace {

const machines::node_ref somebody{{1, 2}, 3};

std::vector<id128> keys(std::uint64_t count) {
  std::vector<id128> all;
  for (std::uint64_t n = 1; n <= count; ++n)
    all.push_back({n, ~n});
  return all;
}

template <class Body>
wire::message body_of(const Body& body) {
  wire::message out;
  wire::append(out, body);
  return out;
}

// Neither a shorter nor a longer one is taken for it.
void check_exact(const wire::message& body, const std::function<bool(std::span<const std::byte>)>& accepts) {
  CHECK(accepts(body));
  for (std::size_t size = 0; size < body.size(); ++size)
    REQUIRE_FALSE(accepts(std::span{body}.first(size)));
  auto longer = body;
  longer.push_back(std::byte{0});
  CHECK_FALSE(accepts(longer));
}

}  // namespace

TEST_CASE("a header tells call, kind, part and reason") {
  auto message = wire::begin();
  wire::set_header(message, {.call = 0x0102030405060708,
                             .kind = wire::call_kind::offer,
                             .part = wire::call_part::refusal,
                             .why = errc::out_of_space});
  REQUIRE(message.size() == wire::call_header_bytes);
  CHECK(message[0] == std::byte{8});  // little endian
  const auto header = wire::parse_header(message);
  REQUIRE(header);
  CHECK(header->call == 0x0102030405060708);
  CHECK(header->kind == wire::call_kind::offer);
  CHECK(header->part == wire::call_part::refusal);
  CHECK(header->why == errc::out_of_space);

  for (const auto& [at, value] :
       {std::pair{8, 0}, {8, static_cast<int>(wire::call_kinds)}, {9, 3}, {10, 13}}) {
    auto wrong = message;
    wrong[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
    CHECK_FALSE(wire::parse_header(wrong));
  }
  CHECK_FALSE(wire::parse_header(std::span{message}.first(15)));
}

TEST_CASE("every body comes out as it went in") {
  SUBCASE("keys") {
    const auto body = body_of(key_list{keys(5)});
    check_exact(body, [](auto bytes) { return wire::parse_key_list(bytes).has_value(); });
    CHECK(wire::parse_key_list(body)->keys == keys(5));
  }
  SUBCASE("lease request") {
    const auto body = body_of(lease_request{somebody, keys(3)});
    check_exact(body, [](auto bytes) { return wire::parse_lease_request(bytes).has_value(); });
    offer swapped{somebody, {}, 5, 0, false, true};
    const auto read_swapped = wire::parse_offer(body_of(swapped));
    REQUIRE(read_swapped);
    CHECK(read_swapped->replace);
    CHECK(!read_swapped->background);
    const auto fronts = body_of(lease_request{somebody, keys(3), {0, 4096, 12}});
    check_exact(fronts, [](auto bytes) { return wire::parse_lease_request(bytes).has_value(); });
    CHECK(wire::parse_lease_request(fronts)->front_bytes == std::vector<std::uint64_t>{0, 4096, 12});
    CHECK(!wire::parse_lease_request(body_of(lease_request{somebody, keys(2), {0, 4096, 12}})));
    const auto read = wire::parse_lease_request(body);
    CHECK(read->reader == somebody);
    CHECK(read->keys == keys(3));
  }
  SUBCASE("lease") {
    lease_reply reply{somebody, 77, {}};
    reply.slots.push_back({.outcome = errc::ok,
                           .kind = machines::item_kind::opaque,
                           .offset = 1,
                           .bytes = 2,
                           .generation = 3,
                           .pinned = true});
    reply.slots.push_back({});
    const auto body = body_of(reply);
    check_exact(body, [](auto bytes) { return wire::parse_lease_reply(bytes).has_value(); });
    const auto read = wire::parse_lease_reply(body);
    CHECK(read->holder == somebody);
    CHECK(read->lease == 77);
    REQUIRE(read->slots.size() == 2);
    CHECK(read->slots[0].outcome == errc::ok);
    CHECK(read->slots[0].kind == machines::item_kind::opaque);
    CHECK(read->slots[0].offset == 1);
    CHECK(read->slots[0].bytes == 2);
    CHECK(read->slots[0].generation == 3);
    CHECK(read->slots[0].pinned);
    CHECK(read->slots[1].outcome == errc::not_found);
  }
  SUBCASE("offer and its answer") {
    const offer what{.writer = somebody,
                     .blocks = {{{5, 6}, machines::item_kind::manifest, 7, 8}},
                     .timeout_ns = 9,
                     .tenant = 10,
                     .background = true};
    const auto body = body_of(what);
    check_exact(body, [](auto bytes) { return wire::parse_offer(bytes).has_value(); });
    const auto read = wire::parse_offer(body);
    CHECK(read->writer == somebody);
    CHECK(read->timeout_ns == 9);
    CHECK(read->tenant == 10);
    CHECK(read->background);
    REQUIRE(read->blocks.size() == 1);
    CHECK(read->blocks[0].key == id128{5, 6});
    CHECK(read->blocks[0].kind == machines::item_kind::manifest);
    CHECK(read->blocks[0].offset == 7);
    CHECK(read->blocks[0].bytes == 8);

    const auto answer = body_of(offer_reply{{0, 5, 12}});
    check_exact(answer, [](auto bytes) { return wire::parse_offer_reply(bytes).has_value(); });
    CHECK(wire::parse_offer_reply(answer)->outcomes == std::vector<std::uint8_t>{0, 5, 12});
    CHECK_FALSE(wire::parse_offer_reply(body_of(offer_reply{{13}})));
  }
  SUBCASE("announcement and withdrawal") {
    const announcement news{.holder = somebody,
                            .keys = {{{1, 1}, machines::item_kind::manifest}, {{2, 2}, {}}},
                            .complete_epoch = 4,
                            .sequence = 5};
    const auto body = body_of(news);
    check_exact(body, [](auto bytes) { return wire::parse_announcement(bytes).has_value(); });
    const auto read = wire::parse_announcement(body);
    CHECK(read->holder == somebody);
    CHECK(read->keys == news.keys);
    CHECK(read->complete_epoch == 4);
    CHECK(read->sequence == 5);

    const auto gone = body_of(withdrawal{somebody, keys(2), 6});
    check_exact(gone, [](auto bytes) { return wire::parse_withdrawal(bytes).has_value(); });
    CHECK(wire::parse_withdrawal(gone)->keys == keys(2));
    CHECK(wire::parse_withdrawal(gone)->sequence == 6);
  }
  SUBCASE("release") {
    wire::message body;
    wire::append_lease(body, 99);
    check_exact(body, [](auto bytes) { return wire::parse_lease(bytes).has_value(); });
    CHECK(wire::parse_lease(body) == 99);
  }
}

TEST_CASE("what a shard found reads the same from a message as from the shard") {
  const machines::node_ref other{{8, 8}, 1};
  machines::located found;
  found.nodes = {somebody, other};
  found.holders = {0, 1, 1};
  found.ends = {2, 2, 3};
  found.complete = false;
  wire::message body;
  wire::append(body, found, 3);
  check_exact(body, [](auto bytes) { return wire::parse_locate_reply(bytes).has_value(); });
  for (const auto& reply : {*wire::parse_locate_reply(body), wire::by_key(found, 3)}) {
    REQUIRE(reply.keys.size() == 3);
    CHECK(reply.keys[0].holders == std::vector{somebody, other});
    CHECK(reply.keys[1].holders.empty());
    CHECK(reply.keys[1].maybe);
    CHECK(reply.keys[2].holders == std::vector{other});
    CHECK_FALSE(reply.keys[2].maybe);
  }
  body[body.size() - 2] = std::byte{2};  // a node that was not named
  CHECK_FALSE(wire::parse_locate_reply(body));
}

TEST_CASE("of very many holders some are told") {
  machines::located found;
  for (std::uint64_t n = 0; n < 40; ++n) {
    found.nodes.push_back({{1, n + 1}, 1});
    found.holders.push_back(static_cast<std::uint16_t>(n));
  }
  found.ends = {40};
  wire::message body;
  wire::append(body, found, 1);
  const auto reply = wire::parse_locate_reply(body);
  REQUIRE(reply);
  CHECK(reply->keys[0].holders.size() == wire::max_holders_per_key);
}

TEST_CASE("queries and scores survive the wire, and nothing else does") {
  const retrieval_queries asked{.reader = {{1, 2}, 3},
                                .number = 4,
                                .steps = 2,
                                .layers = {0, 7},
                                .queries = std::string("qu\0eries!", 9)};
  wire::message body;
  wire::append(body, asked);
  check_exact(body, [](auto bytes) { return wire::parse_retrieval_queries(bytes).has_value(); });
  const auto read = wire::parse_retrieval_queries(body);
  REQUIRE(read);
  CHECK(read->reader == asked.reader);
  CHECK(read->number == asked.number);
  CHECK(read->steps == asked.steps);
  CHECK(read->layers == asked.layers);
  CHECK(read->queries == asked.queries);

  const retrieval_scores scores{.sums = {"abc", ""}, .totals = {"", "de"}};
  body.clear();
  wire::append(body, scores);
  check_exact(body, [](auto bytes) { return wire::parse_retrieval_scores(bytes).has_value(); });
  const auto back = wire::parse_retrieval_scores(body);
  REQUIRE(back);
  CHECK(back->sums == scores.sums);
  CHECK(back->totals == scores.totals);
}

TEST_CASE("counts that promise more than there is allocate nothing") {
  wire::message body(4, std::byte{0xff});
  CHECK_FALSE(wire::parse_key_list(body));
  CHECK_FALSE(wire::parse_offer_reply(body));
  body.resize(8, std::byte{0xff});
  CHECK_FALSE(wire::parse_locate_reply(body));
}
