#include <weft/block/block_verifier.hpp>

#include <doctest/doctest.h>

#include "../counted_allocations.hpp"
#include "sample_blocks.hpp"

#include <algorithm>

using namespace weft;
using namespace weft::block;
using namespace weft::block::test;

namespace {

sample sample_of(random_engine& random, std::uint32_t bands) {
  const shape s{.layers = 2, .kv_heads = 2, .head_dim = 4, .tokens = 6, .dtype = kernels::dtype::bf16};
  return make_sample(random, s, random_bands(random, s, bands));
}

expectation exactly(const identity& id) {
  return {.key = id.key,
          .fingerprint = id.fingerprint,
          .generation = id.generation,
          .incarnation = id.incarnation};
}

// In pieces of random lengths.
errc outcome(block_verifier& verifier, std::span<const std::byte> bytes, const expectation& expected,
             random_engine& random) {
  verifier.restart();
  for (auto rest = bytes; !rest.empty();) {
    const auto length = std::min<std::size_t>(rest.size(), 1 + random() % 300);
    verifier.append(rest.first(length));
    rest = rest.subspan(length);
  }
  const auto proof = verifier.finish(bytes, expected);
  return proof ? errc::ok : proof.error().code;
}

errc verified(std::span<const std::byte> bytes, const identity& id) {
  const auto proof = verify(bytes, id);
  return proof ? errc::ok : proof.error().code;
}

}  // namespace

TEST_CASE("a block in pieces proves itself where the whole block does, whatever bit is flipped") {
  random_engine random(51);
  sample s = sample_of(random, 3);
  block_verifier verifier;
  CHECK(outcome(verifier, s.bytes.span(), exactly(s.id), random) == errc::ok);
  for (std::size_t bit = 0; bit < 8 * s.bytes.span().size(); ++bit) {
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    REQUIRE_MESSAGE(
        outcome(verifier, s.bytes.span(), exactly(s.id), random) == verified(s.bytes.span(), s.id), "bit ",
        bit);
    s.bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  CHECK(outcome(verifier, s.bytes.span(), exactly(s.id), random) == errc::ok);
}

TEST_CASE("a block in pieces may be cut behind a band and nowhere else") {
  random_engine random(52);
  const sample s = sample_of(random, 3);
  block_verifier verifier;
  for (std::size_t length = 0; length <= s.bytes.span().size(); ++length) {
    const aligned_bytes cut(s.bytes.span().first(length));
    REQUIRE_MESSAGE(outcome(verifier, cut.span(), exactly(s.id), random) == verified(cut.span(), s.id),
                    "length ", length);
  }
}

TEST_CASE("bytes behind the last band are corrupt, also in pieces") {
  random_engine random(53);
  const sample s = sample_of(random, 2);
  aligned_bytes longer(s.bytes.span().size() + 64);
  std::ranges::copy(s.bytes.span(), longer.span().begin());
  block_verifier verifier;
  CHECK(outcome(verifier, longer.span(), exactly(s.id), random) == errc::corrupt);
}

TEST_CASE("another key, model or life is stale unless any will do") {
  random_engine random(54);
  const sample s = sample_of(random, 1);
  block_verifier verifier;
  const auto check = [&](auto change) {
    auto expected = exactly(s.id);
    change(expected);
    return outcome(verifier, s.bytes.span(), expected, random);
  };
  CHECK(check([](expectation& e) { ++e.key.low; }) == errc::stale);
  CHECK(check([](expectation& e) { ++e.fingerprint.low; }) == errc::stale);
  CHECK(check([](expectation& e) { ++e.generation; }) == errc::stale);
  CHECK(check([](expectation& e) { ++e.incarnation; }) == errc::stale);
  CHECK(check([](expectation& e) { ++e.fingerprint.low, e.any_fingerprint = true; }) == errc::ok);
  CHECK(check([](expectation& e) { ++e.generation, ++e.incarnation, e.any_life = true; }) == errc::ok);
}

TEST_CASE("opaque blocks of any length prove themselves in pieces") {
  random_engine random(55);
  block_verifier verifier;
  for (const std::size_t bytes : {0U, 1U, 63U, 64U, 5000U}) {
    const std::vector<std::byte> payload(bytes, std::byte{7});
    aligned_bytes block(opaque_size_bytes(bytes));
    const identity id{.key = {1, 2}, .fingerprint = {3, 4}, .generation = 5, .incarnation = 6};
    REQUIRE(write_opaque(block.span(), id, payload, 9));
    CHECK(outcome(verifier, block.span(), exactly(id), random) == verified(block.span(), id));
    block[block.span().size() - 1] ^= std::byte{1};
    CHECK(outcome(verifier, block.span(), exactly(id), random) == errc::corrupt);
  }
}

TEST_CASE("a verifier that is used again allocates nothing") {
  random_engine random(52);
  sample many = sample_of(random, 3);
  sample one = sample_of(random, 1);
  block_verifier verifier;
  const auto prove = [&](sample& s) {
    verifier.restart();
    verifier.append(s.bytes.span());
    return verifier.finish(s.bytes.span(), exactly(s.id)).has_value();
  };
  CHECK(prove(many));
  const auto before = weft::testing::allocations();
  bool all = true;
  for (int i = 0; i < 100; ++i)
    all = prove(i % 2 == 0 ? one : many) && all;
  const auto after = weft::testing::allocations();
  CHECK(all);
  CHECK(after == before);
}
