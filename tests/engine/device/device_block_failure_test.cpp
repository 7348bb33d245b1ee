// Blocks of documents where the device fails, or has little room.
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/written_blocks.hpp>

#include "../small_models.hpp"
#include "device_documents.hpp"
#include "device_options.hpp"

#include <optional>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::block::codec;
using weft::device::failing;
using weft::device::host_device;

namespace {

constexpr std::uint32_t block_tokens = 16;

struct small_device {
  explicit small_device(std::size_t memory_bytes)
      : on(host_compute_device(memory_bytes)),
        memory(dynamic_cast<host_device&>(*on->memory)),
        model(load_fixture("llama", options_on(on))) {}

  std::size_t free_bytes() const { return memory.sizes().free_bytes; }

  std::shared_ptr<const compute_device> on;
  host_device& memory;
  runner model;
};

const std::vector<codec> mixed{codec::raw, codec::int8, codec::int4};

}  // namespace

TEST_CASE("blocks whose device fails amid them are written by the host, and its memory comes back") {
  small_device d(std::size_t{64} << 20U);
  const auto tokens = some_tokens(50, 3);
  (void)scored(d.model, tokens, mixed);  // memory grows
  (void)scored(d.model, tokens, mixed);
  const auto free_bytes = d.free_bytes();
  std::uint64_t works = 0;
  {
    const auto document = scored(d.model, tokens, mixed);
    const placed_blocks found(document, block_tokens);
    const auto before = d.memory.counts().works();
    REQUIRE(write_blocks(document.rows(), block_tokens, found.places()));
    works = d.memory.counts().works() - before;
  }
  REQUIRE(works > 8);
  CHECK(d.free_bytes() == free_bytes);
  CHECK(blocks_of(*d.on).here == 0);
  std::uint64_t here = 0;
  for (const auto how : {failing::once, failing::from_then_on})
    for (std::uint64_t n = 0; n < works; ++n) {
      CAPTURE(n);
      {
        const auto document = scored(d.model, tokens, mixed);
        const auto expected = written_here(document, block_tokens);
        placed_blocks found(document, block_tokens);
        d.memory.fail_at(n, how);
        REQUIRE(write_blocks(document.rows(), block_tokens, found.places()));
        CHECK(found.same_bytes(expected));
        CHECK(blocks_of(*d.on).here == (here += found.places().size()));
        d.memory.fail_no_more();
        placed_blocks again(document, block_tokens);
        REQUIRE(write_blocks(document.rows(), block_tokens, again.places()));
        CHECK(again.same_bytes(expected));
        CHECK(blocks_of(*d.on).here == here);
      }
      CHECK(d.free_bytes() == free_bytes);
    }
}

TEST_CASE("a document whose device fails amid it is none, and keeps no memory there") {
  small_device d(std::size_t{64} << 20U);
  const auto tokens = some_tokens(20, 3);
  (void)unscored(d.model, tokens);
  const auto free_bytes = d.free_bytes();
  const auto before = d.memory.counts().works();
  (void)unscored(d.model, tokens);
  const auto works = d.memory.counts().works() - before;
  for (std::uint64_t n = 0; n < works; ++n) {
    CAPTURE(n);
    d.memory.fail_at(n, failing::once);
    const auto refused = encode_document(d.model, tokens);
    REQUIRE(!refused);
    CHECK(refused.error().code == weft::errc::internal);
    CHECK(d.free_bytes() == free_bytes);
  }
}

TEST_CASE("a device with little room writes a few blocks at a time") {
  small_device d(std::size_t{64} << 20U);
  const auto document = unscored(d.model, some_tokens(400, 3));
  const auto expected = written_here(document, block_tokens);
  const auto others = d.on->memory->allocate(d.free_bytes() - (std::size_t{5} << 19U), "others");
  REQUIRE(others);
  const placed_blocks found(document, block_tokens);
  const auto before = d.memory.counts();
  REQUIRE(write_blocks(document.rows(), block_tokens, found.places()));
  CHECK(found.same_bytes(expected));
  CHECK(blocks_of(*d.on).there == found.places().size());
  // Besides the blocks, their checksums each time.
  CHECK(d.memory.counts().downloads - before.downloads >= found.places().size() + 3);
}

TEST_CASE("where a document's rows have no room on the device, or blocks have none, the host writes them") {
  const auto tokens = some_tokens(60, 3);
  for (const bool rows_have_room : {false, true}) {
    small_device d(std::size_t{64} << 20U);
    (void)unscored(d.model, tokens);  // memory grows
    std::optional<banded_document> document;
    if (rows_have_room) document.emplace(unscored(d.model, tokens));
    const auto shape = d.model.cache_shape();
    const std::size_t rows_bytes = 2 * tokens.size() * shape.layers * shape.kv_heads * shape.row_bytes();
    // As much as the pass needs, and less than twice the rows.
    const std::size_t left_bytes = rows_have_room ? 1024 : rows_bytes * 17 / 10;
    const auto others = d.on->memory->allocate(d.free_bytes() - left_bytes, "others");
    REQUIRE(others);
    if (!rows_have_room) document.emplace(unscored(d.model, tokens));
    CHECK((document->rows().there() != nullptr) == rows_have_room);
    const placed_blocks found(*document, block_tokens);
    REQUIRE(write_blocks(document->rows(), block_tokens, found.places()));
    CHECK(found.same_bytes(written_here(*document, block_tokens)));
    CHECK(blocks_of(*d.on).there == 0);
    CHECK(blocks_of(*d.on).here == found.places().size());
  }
}
