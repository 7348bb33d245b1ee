#include <weft/engine/shared_blocks.hpp>

#include "group_sums.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

namespace weft::engine {

namespace {

constexpr std::size_t alignment_bytes = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + alignment_bytes - 1) / alignment_bytes * alignment_bytes;
}

result<void> check_fetched(std::size_t expected, const fetched_blocks& fetched) {
  if (!fetched) return tl::make_unexpected(fetched.error());
  if (fetched->size() == expected) return {};
  return fail(errc::invalid_argument, std::to_string(fetched->size()) +
                                          " blocks were fetched for a document of " +
                                          std::to_string(expected) + "; fetch all of them, in their order");
}

block::identity identity_of(const block::expectation& expected, const block::identity& found) {
  return {.key = expected.key,
          .fingerprint = expected.any_fingerprint ? found.fingerprint : expected.fingerprint,
          .generation = expected.any_life ? found.generation : expected.generation,
          .incarnation = expected.any_life ? found.incarnation : expected.incarnation};
}

result<block::view> proved(std::span<const std::byte> bytes, const block::expectation& expected) {
  const auto parsed = block::view::parse(bytes);
  if (!parsed) return tl::make_unexpected(parsed.error());
  return block::verify(bytes, identity_of(expected, parsed->id()));
}

}  // namespace

result<void> shared_blocks::lay_out(std::span<const std::uint64_t> lengths) {
  std::size_t total = 0;
  for (const auto length : lengths) {
    if (length == 0) return fail(errc::invalid_argument, "a block of no bytes was fetched");
    total += aligned(length);
    bytes_ += length;
  }
  memory_ = kernels::aligned_buffer(total);
  const std::span room(memory_.data(), total);
  std::size_t at = 0;
  for (const auto length : lengths) {
    places_.push_back(room.subspan(at, length));
    at += aligned(length);
  }
  return {};
}

result<void> shared_blocks::prove(std::span<const block::expectation> expected) {
  for (std::size_t i = 0; i < expected.size(); ++i) {
    auto view = proved(places_[i], expected[i]);
    if (!view) return tl::make_unexpected(view.error());
    views_.push_back(std::move(*view));
  }
  return {};
}

result<shared_blocks> shared_blocks::broadcast(collective::communicator& group, unsigned root,
                                               std::span<const block::expectation> expected,
                                               const fetched_blocks& fetched) {
  const bool is_root = group.rank() == root;
  group_sums together(&group);
  const auto failed = [](const result<void>& why) { return tl::make_unexpected(why.error()); };
  if (auto all = together.agreed(is_root ? check_fetched(expected.size(), fetched) : result<void>{}); !all)
    return failed(all);

  std::vector<std::uint64_t> lengths(expected.size());
  if (is_root)
    std::ranges::transform(*fetched, lengths.begin(), [](const auto& bytes) { return bytes.size(); });
  if (auto told = group.broadcast(std::as_writable_bytes(std::span(lengths)), root); !told)
    return failed(told);
  shared_blocks shared;
  if (auto all = together.agreed(shared.lay_out(lengths)); !all) return failed(all);
  for (std::size_t i = 0; i < shared.places_.size(); ++i) {
    if (is_root) std::ranges::copy((*fetched)[i], shared.places_[i].begin());
    if (auto sent = group.broadcast(shared.places_[i], root); !sent) return failed(sent);
  }
  if (auto all = together.agreed(shared.prove(expected)); !all) return failed(all);
  return shared;
}

}  // namespace weft::engine
