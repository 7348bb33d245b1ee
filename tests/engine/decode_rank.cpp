// A rank of a group that answers questions with the recall model.
//
//   decode_rank <transports> <timeout in ms>
//
// Says its seat's address, reads "<rank> <addresses by rank>", then requests (group_request.hpp), to each of
// which it says "answer <bytes that it fetched> <tokens> <logits>", or "lost <why>" where the group ended;
// and again with a new address, until its input ends.
#include <weft/fabric/ucx_group.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include "fabric/hexadecimal.hpp"
#include "group_request.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <future>
#include <iostream>

namespace {

using namespace weft;
using namespace weft::engine;
using namespace weft::engine::test;

constexpr auto patience = std::chrono::seconds{20};

// The blocks of all documents, out of the pool's arena.
fetched_blocks fetch_all(fabric::transport& transport, const group_request& asked) {
  std::promise<result<fabric::peer_id>> connected;
  transport.connect(testing::from_hexadecimal(asked.pool_address), patience,
                    [&](result<fabric::peer_id> peer) { connected.set_value(std::move(peer)); });
  const auto peer = connected.get_future().get();
  if (!peer) return tl::make_unexpected(peer.error());
  std::vector<fabric::fetch_range> ranges;
  std::vector<std::span<const std::byte>> bytes;
  std::uint64_t at = 0;
  for (const auto& blocks : asked.blocks)
    for (const auto& block : blocks) {
      ranges.push_back({.remote_offset = block.offset, .length_bytes = block.length, .local_offset = at});
      bytes.push_back(transport.arena().subspan(at, block.length));
      at += (block.length + 63) / 64 * 64;
    }
  std::promise<result<void>> arrived;
  transport.fetch(*peer, std::move(ranges), patience,
                  [&](const fabric::fetch_report& report) { arrived.set_value(report.outcome); });
  if (auto outcome = arrived.get_future().get(); !outcome) return tl::make_unexpected(outcome.error());
  return bytes;
}

result<group_answer> answer_together(collective::communicator& group, runner& model,
                                     fabric::transport& transport, const group_request& asked) {
  std::vector<block::expectation> expected;
  for (const auto& blocks : asked.blocks)
    for (std::size_t i = 0; i < blocks.size(); ++i)
      expected.push_back(expected_block(i));
  fetched_blocks fetched;
  if (group.rank() == asked.root) fetched = fetch_all(transport, asked);
  const auto shared = shared_blocks::broadcast(group, asked.root, expected, fetched);
  if (!shared) return tl::make_unexpected(shared.error());
  std::vector<document_blocks> by_document;
  std::size_t first = 0;
  for (const auto& blocks : asked.blocks) {
    by_document.push_back(shared->blocks().subspan(first, blocks.size()));
    first += blocks.size();
  }
  return answer(model, asked, by_document);
}

void say(const group_answer& given, std::uint64_t fetched_bytes) {
  std::cout << "answer " << fetched_bytes;
  write_list(std::cout, given.tokens);
  std::vector<std::uint32_t> bits(given.logits.size());
  std::ranges::transform(given.logits, bits.begin(),
                         [](float value) { return std::bit_cast<std::uint32_t>(value); });
  write_list(std::cout, bits);
  std::cout << std::endl;
}

// Until the group or the input ends.
result<void> serve(fabric::ucx_group_seat seat, const std::string& line, fabric::transport& transport) {
  std::istringstream words(line);
  unsigned rank = 0;
  words >> rank;
  std::vector<std::string> addresses;
  for (std::string word; words >> word;)
    addresses.push_back(testing::from_hexadecimal(word));
  const auto group = std::move(seat).join(rank, addresses);
  if (!group) return tl::make_unexpected(group.error());
  auto model = runner::load(
      WEFT_SOURCE_DIR "/models/recall",
      {.threads = 1, .cache_dtype = kernels::dtype::f32, .products = arithmetic::f32, .group = group->get()});
  if (!model) return tl::make_unexpected(model.error());
  for (std::string request; std::getline(std::cin, request);) {
    const auto before = transport.counters().bytes_in;
    const auto given = answer_together(**group, *model, transport, request_from(request));
    if (!given) return tl::make_unexpected(given.error());
    say(*given, transport.counters().bytes_in - before);
  }
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  fabric::ucx_group_options options;
  options.transports = argv[1];
  options.group.timeout = std::chrono::milliseconds{std::atoi(argv[2])};
  const auto transport = fabric::make_ucx_transport({.arena_bytes = 16 << 20, .transports = argv[1]});
  if (!transport) {
    std::cerr << to_string(transport.error()) << '\n';
    return 1;
  }
  while (true) {
    auto seat = fabric::ucx_group_seat::open(options);
    if (!seat) {
      std::cerr << to_string(seat.error()) << '\n';
      return 1;
    }
    std::cout << testing::to_hexadecimal(seat->address()) << std::endl;
    std::string line;
    if (!std::getline(std::cin, line)) return 0;
    const auto ended = serve(std::move(*seat), line, **transport);
    if (ended) return 0;
    std::cout << "lost " << name_of(ended.error().code) << ' ' << ended.error().context << std::endl;
  }
}
