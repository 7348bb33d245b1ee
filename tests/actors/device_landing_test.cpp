// Blocks of one node straight to the likeness of another's device, by gets of UCX's.
#include <weft/actors/block_bytes.hpp>
#include <weft/actors/device_landing.hpp>
#include <weft/actors/node_fetches.hpp>
#include <weft/block/layout.hpp>
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <doctest/doctest.h>

#include "likeness_memory.hpp"

#include <algorithm>
#include <array>
#include <future>
#include <memory>
#include <vector>

using namespace weft;
using namespace weft::actors;

namespace {

constexpr std::uint64_t arena_bytes = 4 << 20;
constexpr std::uint64_t staging_bytes = 1 << 20;
constexpr std::size_t payload_bytes = 150'000;
const id128 reader{0, 1};
const id128 holder{0, 2};

std::unique_ptr<fabric::transport> transport_with_gets() {
  fabric::ucx_options options;
  options.transports = "shm";
  options.arena_bytes = arena_bytes;
  options.map_peer_arenas = false;
  auto made = fabric::make_ucx_transport(options);
  REQUIRE_MESSAGE(made.has_value(), (made ? "" : to_string(made.error())));
  return std::move(*made);
}

cluster_ptr both(const id128& self, fabric::transport& here, fabric::transport& there) {
  auto now = std::make_shared<cluster>();
  now->view.epoch = 1;
  now->self = {self, 1};
  for (const auto& [id, transport] : {std::pair{reader, &here}, {holder, &there}}) {
    machines::member m;
    m.ref = {id, 1};
    m.fabric_address = transport->address();
    now->view.members.push_back(m);
  }
  return now;
}

struct two_nodes {
  two_nodes()
      : device(engine::host_compute_device(std::size_t{16} << 20U)),
        there(transport_with_gets()),
        here(transport_with_gets()),
        room(std::make_shared<staging>(here->arena(), staging_bytes)),
        links(peer_links::make(*here, [](fabric::peer_id) {})),
        fetches(reader, *here, links) {
    auto made = make_device_landing(device, here->arena().first(room->capacity_bytes()), *here,
                                    simulation::on_host(*device));
    REQUIRE_MESSAGE(made.has_value(), (made ? "" : to_string(made.error())));
    landing = std::move(*made);
    fetches.copy_on([](const std::function<void()>& proof) { proof(); });
    links->adopt(both(reader, *here, *there));
  }
  ~two_nodes() {
    landing.reset();
    there.reset();
    here.reset();
  }
  two_nodes(const two_nodes&) = delete;
  two_nodes& operator=(const two_nodes&) = delete;

  // The n-th block of the holder's arena.
  std::span<std::byte> store(std::uint64_t n) {
    std::vector<std::byte> payload(payload_bytes);
    for (std::size_t i = 0; i < payload.size(); ++i)
      payload[i] = static_cast<std::byte>(n * 31 + i * i);
    const auto bytes = block::opaque_size_bytes(payload_bytes);
    const auto place = there->arena().subspan(offset_of(n), bytes);
    REQUIRE(block::write_opaque(place, {.key = {n, 9}, .fingerprint = {}}, payload, 0));
    return place;
  }

  static constexpr std::uint64_t stride_bytes = std::uint64_t{256} << 10U;
  static std::uint64_t offset_of(std::uint64_t n) { return n * stride_bytes; }

  fetch_outcome land(const std::vector<std::uint64_t>& blocks,
                     const std::vector<std::shared_ptr<const block_bytes>>& places) {
    fetch_order order{
        .node = holder, .ranges = {}, .timeout = std::chrono::seconds{20}, .watcher = {}, .landing = landing};
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const auto at = places[i]->bytes().data() - here->arena().data();
      order.ranges.push_back(
          {offset_of(blocks[i]), places[i]->bytes().size(), static_cast<std::uint64_t>(at)});
      order.expected.push_back({.key = {blocks[i], 9}, .any_fingerprint = true, .any_life = true});
    }
    std::promise<fetch_outcome> came;
    fetches.fetch(std::move(order), [&](fetch_outcome outcome) { came.set_value(std::move(outcome)); });
    return came.get_future().get();
  }

  std::shared_ptr<const block_bytes> place() {
    auto taken = room->take(block::opaque_size_bytes(payload_bytes));
    REQUIRE(taken);
    return std::make_shared<const block_bytes>(std::move(*taken), landing->blocks);
  }

  std::shared_ptr<const engine::compute_device> device;
  std::unique_ptr<fabric::transport> there, here;
  std::shared_ptr<staging> room;
  std::shared_ptr<peer_links> links;
  node_fetches fetches;
  std::shared_ptr<const device_landing> landing;
};

}  // namespace

TEST_CASE("blocks land on the device by gets, are proven there and leave with their bytes") {
  two_nodes nodes;
  std::vector<std::byte> first(nodes.store(0).begin(), nodes.store(0).end());
  const auto rotten = nodes.store(1);
  rotten.back() ^= std::byte{1};
  nodes.store(2);
  const std::vector places{nodes.place(), nodes.place(), nodes.place()};
  const auto staged = nodes.here->arena().first(staging_bytes);
  std::ranges::fill(staged, std::byte{0xA5});

  auto outcome = nodes.land({0, 1, 3}, places);  // of the last there is none
  CHECK(outcome.path == "land");
  CHECK(outcome.fabric == errc::ok);  // all ranges came
  REQUIRE(outcome.ranges.size() == 3);
  CHECK(outcome.ranges[0]);
  CHECK(outcome.ranges[1].error().code == errc::corrupt);
  CHECK(!outcome.ranges[2]);
  const auto bytes = places[0]->bytes();
  CHECK(nodes.landing->blocks->there(bytes.data()) != nullptr);
  CHECK(nodes.landing->blocks->there(places[1]->bytes().data()) == nullptr);
  // Here is what says what it is, which may be all that a header can take, and nothing more.
  const auto view = block::view::parse(bytes);
  REQUIRE(view);
  CHECK(std::ranges::all_of(view->payload().last(payload_bytes / 2),
                            [](std::byte b) { return b == std::byte{0xA5}; }));
  REQUIRE(nodes.landing->blocks->bring_home(bytes.data()));
  CHECK(std::ranges::equal(bytes, first));
  CHECK(nodes.here->counters().bytes_in == 3 * bytes.size());

  // The place of one that ends is free for others, on the device as well.
  auto again = nodes.place();
  const auto* const where = again->bytes().data();
  REQUIRE(nodes.land({2}, {again}).ranges[0]);
  CHECK(nodes.landing->blocks->there(where) != nullptr);
  again.reset();
  CHECK(nodes.landing->blocks->there(where) == nullptr);
}

TEST_CASE("a device that fails proves nothing, and says so") {
  two_nodes nodes;
  nodes.store(0);
  const auto place = nodes.place();
  dynamic_cast<device::host_device&>(*nodes.device->memory).fail_at(0, device::failing::once);
  const auto outcome = nodes.land({0}, {place});
  REQUIRE(!outcome.ranges[0]);
  CHECK(outcome.ranges[0].error().code == errc::internal);
  CHECK(outcome.fabric == errc::ok);
  CHECK(nodes.landing->blocks->there(place->bytes().data()) == nullptr);
  CHECK(nodes.land({0}, {place}).ranges[0]);
}

TEST_CASE("what the fabric says of a landing is told though the device proves the rest") {
  two_nodes nodes;
  nodes.store(0);
  const std::vector places{nodes.place(), nodes.place()};
  constexpr std::uint64_t behind_all = arena_bytes / two_nodes::stride_bytes;
  const auto outcome = nodes.land({0, behind_all}, places);
  CHECK(outcome.ranges[0]);
  CHECK(outcome.ranges[1].error().code == errc::invalid_argument);
  CHECK(outcome.fabric == errc::invalid_argument);
}

TEST_CASE("a landing is refused where it cannot be") {
  two_nodes nodes;
  const auto beside = nodes.here->arena().first(staging_bytes);
  // As for a CUDA device.
  CHECK(make_device_landing(nodes.device, beside, *nodes.here, {}).error().code == errc::unsupported);
  const auto too_small = engine::host_compute_device(std::size_t{1} << 16U);
  CHECK(make_device_landing(too_small, beside, *nodes.here, simulation::on_host(*too_small)).error().code ==
        errc::out_of_space);
  // A node's own blocks are in its arena.
  fetch_order own{.node = reader,
                  .ranges = {{0, 10, 0}},
                  .timeout = std::chrono::seconds{1},
                  .watcher = {},
                  .landing = nodes.landing,
                  .expected = {{}}};
  nodes.fetches.fetch(own, [](const fetch_outcome& outcome) {
    CHECK(outcome.ranges[0].error().code == errc::unsupported);
    CHECK(outcome.fabric == errc::unsupported);
  });
}
