// What fetches cost beside their bytes, and how the way that they take is measured.
#include <weft/fabric/fetch_watcher.hpp>

#include <doctest/doctest.h>

#include "../counted_allocations.hpp"
#include "ucx_pair.hpp"

#include <algorithm>
#include <limits>

namespace weft::fabric::testing {

namespace {

class summing_watcher final : public fetch_watcher {
 public:
  void arrived(std::size_t, std::span<const std::byte> bytes) override { bytes_ += bytes.size(); }
  result<void> complete(std::size_t) override { return {}; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::uint64_t bytes_ = 0;
};

constexpr std::uint64_t range_bytes = 512;

std::vector<fetch_range> scattered(std::size_t count) {
  std::vector<fetch_range> ranges(count);
  for (std::size_t i = 0; i < count; ++i)
    ranges[i] = {
        .remote_offset = 2 * i * range_bytes, .length_bytes = range_bytes, .local_offset = i * range_bytes};
  return ranges;
}

// Of the whole process, from the call to the callback.
std::uint64_t allocations_of_fetch(transport_pair& pair, peer_id peer, std::size_t ranges) {
  auto wanted = scattered(ranges);
  const auto watcher = std::make_shared<summing_watcher>();
  const awaited<fetch_report> fetched{pair};
  fetch_callback done = fetched.callback();
  const auto before = weft::testing::allocations();
  pair.here().fetch(peer, std::move(wanted), std::chrono::seconds{60}, std::move(done), watcher);
  CHECK(fetched.get().outcome);
  const auto after = weft::testing::allocations();
  CHECK(watcher->bytes() == ranges * range_bytes);
  return after - before;
}

// What happens only now and then does not count.
std::uint64_t least_allocations(transport_pair& pair, peer_id peer, std::size_t ranges) {
  auto least = std::numeric_limits<std::uint64_t>::max();
  for (int i = 0; i < 10; ++i)
    least = std::min(least, allocations_of_fetch(pair, peer, ranges));
  return least;
}

peer_status measured(transport_pair& pair, peer_id peer) {
  for (;;) {
    const auto status = pair.here().peers().at(0);
    if (status.probe_nanoseconds != 0) return status;
    REQUIRE(fetch_now(pair, peer, {{0, 1, 0}}).outcome);
  }
}

}  // namespace

TEST_CASE_TEMPLATE("a watched fetch of many ranges allocates no more than one of a few", Pair, tcp_pair,
                   shared_memory_pair, shared_memory_gets_pair) {
  Pair pair;
  const auto peer = connect_pair(pair);
  measured(pair, peer);
  const auto few = least_allocations(pair, peer, 16);
  const auto many = least_allocations(pair, peer, 2048);
  CAPTURE(few);
  CHECK(many < few + 32);
}

TEST_CASE_TEMPLATE("the path to a peer is measured when it is connected, beside all that counts", Pair,
                   tcp_pair, shared_memory_pair, shared_memory_gets_pair) {
  Pair pair;
  const auto peer = connect_pair(pair);
  const auto status = measured(pair, peer);
  CHECK(status.probed_bytes > 0);
  CHECK(status.bytes_fetched == pair.here().counters().bytes_in);
  CHECK(status.bytes_fetched == pair.here().counters().fetches);  // of one byte each
  if (status.transport == "tcp") CHECK(status.way == path::push);
  if (pair.views_peers()) CHECK(status.way == path::get);
  // Whatever way it is, it brings what is there.
  CHECK(fetch_now(pair, peer, {{0, 1 << 20, 0}}).bytes == 1 << 20);
}

TEST_CASE_TEMPLATE("a peer that freezes while it is measured keeps its path and its connection", Pair,
                   tcp_pair, shared_memory_gets_pair) {
  Pair pair;
  const auto peer = connect_pair(pair);
  pair.freeze_peer();
  fetch_now(pair, peer, {{0, 1 << 20, 0}}, std::chrono::milliseconds{300});
  pair.thaw_peer();
  CHECK(fetch_now(pair, peer, {{0, 1 << 20, 0}}).outcome);
  CHECK(pair.here().peers().at(0).alive);
}

}  // namespace weft::fabric::testing
