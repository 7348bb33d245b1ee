// Blocks in a device's memory: whether they are what they say, beside what the host says of the same bytes.
#include <weft/block/layout.hpp>
#include <weft/engine/block_landing.hpp>

#include "../../block/sample_blocks.hpp"
#include "../../fuzz/resealed_block.hpp"
#include "device_under_test.hpp"
#include "landed_blocks.hpp"

using namespace weft::engine;
using namespace weft::engine::test;
using namespace weft::block::test;
using weft::errc;
using weft::block::identity;

namespace {

constexpr std::size_t mebibyte = std::size_t{1} << 20U;

sample small_sample(random_engine& random, std::uint32_t bands) {
  const weft::block::shape s{
      .layers = 2, .kv_heads = 2, .head_dim = 4, .tokens = 6, .dtype = weft::kernels::dtype::bf16};
  return make_sample(random, s, random_bands(random, s, bands));
}

errc code_of(const weft::result<void>& outcome) {
  return outcome ? errc::ok : outcome.error().code;
}

errc verified(std::span<const std::byte> bytes, const identity& id) {
  const auto proof = weft::block::verify(bytes, id);
  return proof ? errc::ok : proof.error().code;
}

std::vector<std::byte> copy_of(std::span<const std::byte> bytes) {
  return {bytes.begin(), bytes.end()};
}

// Blocks that are proven together, and what the host says of them.
class trial {
 public:
  explicit trial(std::size_t bytes) : place_(device_under_test(), bytes) {}

  void add(std::span<const std::byte> bytes, const identity& id) {
    places_.push_back({place_.fetch(bytes), exactly(id)});
    const aligned_bytes aligned(bytes);
    expected_.push_back(verified(aligned.span(), id));
  }
  // How many are right.
  std::size_t check() {
    place_.deliver();
    const auto found = place_.landing().prove(places_);
    REQUIRE(found.size() == places_.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      REQUIRE_MESSAGE(code_of(found[i]) == expected_[i], "block ", i);
      CHECK((place_.landing().there(places_[i].here.data()) != nullptr) == (expected_[i] == errc::ok));
    }
    return static_cast<std::size_t>(std::ranges::count(expected_, errc::ok));
  }

 private:
  landing_place place_;
  std::vector<block_landing::arrived> places_;
  std::vector<errc> expected_;
};

}  // namespace

TEST_CASE("a block that came to a device proves itself there, tells its rows here, and comes home") {
  if (!device_under_test()) return;
  random_engine random(71);
  landing_place place(device_under_test(), 8 * mebibyte);
  std::vector<sample> samples;
  std::vector<block_landing::arrived> blocks;
  for (int i = 0; i < 40; ++i) {
    samples.push_back(random_sample(random));
    blocks.push_back({place.fetch(samples.back().bytes.span()), exactly(samples.back().id)});
  }
  place.deliver();
  CHECK(place.landing().there(place.data()) == nullptr);
  for (const auto& outcome : place.landing().prove(blocks))
    REQUIRE_MESSAGE(outcome.has_value(), outcome.error().context);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto here = blocks[i].here;
    const auto expected = samples[i].bytes.span();
    spoil_rows(here);
    const auto found = weft::block::view::parse(here);
    REQUIRE(found);
    CHECK(found->verify_rows());
    const std::size_t last = here.size() - 1;
    CHECK(place.landing().there(here.data()) ==
          place.landing().memory().data() + (here.data() - place.data()));
    CHECK(place.landing().there(here.data() + last) == place.landing().there(here.data()) + last);
    REQUIRE(place.landing().bring_home(here.data() + last / 2));
    CHECK(std::ranges::equal(here, expected));
    CHECK(place.landing().there(here.data()) != nullptr);
    place.landing().leave(here.data());
    CHECK(place.landing().there(here.data()) == nullptr);
    CHECK(code_of(place.landing().bring_home(here.data())) == errc::invalid_argument);
  }
}

TEST_CASE("of a long block its header and its rows' places come here, and nothing else") {
  if (!device_under_test()) return;
  random_engine random(77);
  const weft::block::shape shape{
      .layers = 3, .kv_heads = 4, .head_dim = 64, .tokens = 120, .dtype = weft::kernels::dtype::f32};
  const sample s = make_sample(random, shape, random_bands(random, shape, 4));
  landing_place place(device_under_test(), 2 * mebibyte);
  const block_landing::arrived block{place.fetch(s.bytes.span()), exactly(s.id)};
  place.deliver();
  REQUIRE(place.landing().prove({&block, 1}).front());
  const auto expected = weft::block::view::parse(s.bytes.span()),
             found = weft::block::view::parse(block.here);
  REQUIRE(found);
  REQUIRE(found->verify_rows());
  for (std::uint32_t band = 0; band < 4; ++band)
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
      const auto a = expected->layer(band, layer), b = found->layer(band, layer);
      REQUIRE(a.rows == b.rows);
      CHECK(std::equal(a.counts, a.counts + shape.kv_heads, b.counts));
      CHECK(std::equal(a.positions, a.positions + a.rows, b.positions));
    }
  CHECK(std::ranges::count(block.here, landing_place::untouched) >
        static_cast<std::ptrdiff_t>(block.here.size() / 2));
  REQUIRE(place.landing().bring_home(block.here.data()));
  CHECK(std::ranges::equal(block.here, s.bytes.span()));
}

TEST_CASE("a device finds every flipped bit that the host finds, behind right checksums, too") {
  if (!device_under_test()) return;
  random_engine random(72);
  sample s = small_sample(random, 3);
  const std::size_t bits = 8 * s.bytes.span().size();
  for (const bool resealed : {false, true}) {
    CAPTURE(resealed);
    trial flips(bits * s.bytes.span().size());
    for (std::size_t bit = 0; bit < bits; ++bit) {
      auto bytes = copy_of(s.bytes.span());
      bytes[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
      if (resealed) weft::fuzz::reseal(bytes);
      flips.add(bytes, s.id);
    }
    // Of right checksums, what keys and values say is left to them.
    CHECK((flips.check() > 0) == resealed);
  }
}

TEST_CASE("a block may be cut behind a band and nowhere else, on a device") {
  if (!device_under_test()) return;
  random_engine random(73);
  const sample s = small_sample(random, 3);
  const auto bytes = s.bytes.span();
  trial cuts((bytes.size() + 1) * (bytes.size() + weft::block::part_alignment_bytes));
  for (std::size_t length = 0; length <= bytes.size(); ++length)
    cuts.add(bytes.first(length), s.id);
  auto longer = copy_of(bytes);
  longer.resize(longer.size() + weft::block::part_alignment_bytes);
  cuts.add(longer, s.id);
  CHECK(cuts.check() == 3);
}

TEST_CASE("another block, model or life is stale on a device, and what is no block is corrupt") {
  if (!device_under_test()) return;
  random_engine random(74);
  const sample s = small_sample(random, 2);
  trial others(mebibyte);
  others.add(s.bytes.span(), s.id);
  for (const int field : {0, 1, 2, 3}) {
    identity expected = s.id;
    expected.key.high ^= field == 0 ? 1U : 0U;
    expected.fingerprint.low ^= field == 1 ? 1U : 0U;
    expected.generation += field == 2 ? 1 : 0;
    expected.incarnation += field == 3 ? 1 : 0;
    others.add(s.bytes.span(), expected);
  }
  others.add(std::vector<std::byte>(4096), {});
  others.add(random_bytes(random, 4096), {});
  CHECK(others.check() == 1);

  landing_place place(device_under_test(), mebibyte);
  auto expected = exactly(s.id);
  ++expected.fingerprint.low;
  ++expected.generation;
  expected.any_fingerprint = expected.any_life = true;
  const block_landing::arrived any{place.fetch(s.bytes.span()), expected};
  place.deliver();
  CHECK(place.landing().prove({&any, 1}).front());
}

TEST_CASE("opaque blocks of any length prove themselves on a device") {
  if (!device_under_test()) return;
  trial payloads(mebibyte);
  const identity id{.key = {1, 2}, .fingerprint = {3, 4}, .generation = 5, .incarnation = 6};
  for (const std::size_t bytes : {0U, 1U, 63U, 64U, 5000U}) {
    const std::vector<std::byte> payload(bytes, std::byte{7});
    aligned_bytes block(weft::block::opaque_size_bytes(bytes));
    REQUIRE(weft::block::write_opaque(block.span(), id, payload, 9));
    payloads.add(block.span(), id);
    block[block.span().size() - 1] ^= std::byte{1};
    payloads.add(block.span(), id);
  }
  CHECK(payloads.check() == 5);
}

TEST_CASE("a block without a place beside the device's memory is refused, others with it are not") {
  if (!device_under_test()) return;
  random_engine random(75);
  const sample s = small_sample(random, 1);
  landing_place place(device_under_test(), 4096);
  aligned_bytes elsewhere(s.bytes.span());
  const auto here = place.fetch(s.bytes.span());
  place.deliver();
  const block_landing::arrived blocks[] = {{elsewhere.span(), exactly(s.id)},
                                           {{here.data() + 8, here.size()}, exactly(s.id)},
                                           {{place.data() + 3968, here.size()}, exactly(s.id)},
                                           {here, exactly(s.id)}};
  const auto found = place.landing().prove(blocks);
  for (const std::size_t i : {0U, 1U, 2U})
    CHECK(code_of(found[i]) == errc::invalid_argument);
  CHECK(found[3]);
  CHECK(place.landing().prove({}).empty());
}

TEST_CASE("memory that no device has, or that begins anywhere, makes no landing") {
  if (!device_under_test()) return;
  aligned_bytes bytes(4096);
  const auto shifted = block_landing::make(device_under_test(), bytes.span().subspan(64 + 8));
  REQUIRE(!shifted);
  CHECK(shifted.error().code == errc::invalid_argument);
  const auto total = device_under_test()->memory->sizes().total_bytes;
  const auto huge = block_landing::make(device_under_test(), {static_cast<std::byte*>(nullptr), 2 * total});
  REQUIRE(!huge);
  CHECK(huge.error().code == errc::out_of_space);
}
