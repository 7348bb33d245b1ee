#include <weft/engine/layered_load.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "stored_document.hpp"

#include <cstring>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::policies::plan_stitch;
using weft::policies::prompt_document;
using weft::policies::stitch_plan;
using weft::policies::stitch_policy;

namespace {

constexpr std::uint32_t room = 512;
constexpr std::uint32_t block_tokens = 32;

// The blocks of a document at their owner's, and here, where at first only their headers are.
class travelling_document {
 public:
  travelling_document(runner& model, const std::vector<token_id>& tokens) {
    const auto document = encode_document(model, tokens);
    REQUIRE(document);
    for (std::uint32_t i = 0; i < document->blocks(block_tokens); ++i) {
      const auto shape = document->block_shape(i, block_tokens);
      const auto bands = two_bands(shape);
      there_.emplace_back(weft::block::size_bytes(shape, bands));
      here_.emplace_back(there_.back().size_bytes());
      const std::span bytes(there_.back().data(), there_.back().size_bytes());
      REQUIRE(weft::block::write(bytes, {{1, i}, {2, 3}, 0, 0}, shape, bands,
                                 document->block_source(i, block_tokens)));
      std::memset(here_.back().data(), 0xFF, here_.back().size_bytes());
      const auto whole = weft::block::view::parse(bytes);
      REQUIRE(whole);
      std::memcpy(here_.back().data(), there_.back().data(), whole->header_bytes());
      views_.push_back(
          weft::block::view::parse(std::span(here_.back().data(), here_.back().size_bytes())).value());
    }
  }

  document_blocks blocks() const { return views_; }

  void bring(std::uint32_t layer) {
    for (std::size_t i = 0; i < views_.size(); ++i)
      for (std::uint32_t band = 0; band < views_[i].band_count(); ++band) {
        const auto range = views_[i].range_of_layer(band, layer);
        std::memcpy(here_[i].data() + range.offset, there_[i].data() + range.offset, range.bytes);
      }
  }

  // One bit of a value on its way: no count or position.
  void damage() {
    const auto range = views_.front().range_of_layer(0, 1);
    here_.front().data()[range.offset + range.bytes - 64] ^= std::byte{1};
  }

  void damage_counts(std::uint32_t layer) {
    const auto range = views_.front().range_of_layer(0, layer);
    std::memset(here_.front().data() + range.offset, 0x7F, 2);
  }

 private:
  std::vector<weft::kernels::aligned_buffer> there_, here_;
  std::vector<weft::block::view> views_;
};

struct journey {
  explicit journey(runner& model) {
    for (const auto& tokens : texts)
      documents.emplace_back(model, tokens);
    for (const auto& document : documents)
      blocks.push_back(document.blocks());
  }

  stitch_plan plan(const stitch_policy& policy, bool stored = true) const {
    std::vector<prompt_document> listed;
    for (const auto& tokens : texts)
      listed.push_back({tokens, stored});
    auto made = plan_stitch(policy, {opening, listed, question});
    REQUIRE(made);
    return *made;
  }

  void bring(std::uint32_t layer) {
    for (auto& document : documents)
      document.bring(layer);
  }

  std::vector<token_id> opening = some_tokens(3, 1);
  std::vector<std::vector<token_id>> texts{some_tokens(70, 2), some_tokens(33, 3)};
  std::vector<token_id> question = some_tokens(9, 5);
  std::vector<travelling_document> documents;
  std::vector<document_blocks> blocks;
};

}  // namespace

TEST_CASE("layers that come one by one give the same rows and logits, bit for bit") {
  auto options = exact_options();
  options.chunk_rows = 16;
  auto model = load_fixture("llama", options);
  for (const auto& policy : {stitch_policy::none, stitch_policy::epic(10)}) {
    CAPTURE(name_of(policy));
    journey trip(model);
    const auto plan = trip.plan(policy);
    std::vector<std::uint32_t> waited;
    kv_cache cache(model.cache_shape(), room);
    std::vector<float> logits(model.config().vocab_size);
    const auto done = prefill_while_loading(
        model, cache, plan, trip.blocks,
        [&](std::uint32_t layer) -> weft::result<void> {
          waited.push_back(layer);
          trip.bring(layer);
          return {};
        },
        logits);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    CHECK(waited == std::vector<std::uint32_t>{0, 1, 2});
    CHECK(verify_documents(model, trip.blocks));

    kv_cache at_once(model.cache_shape(), room);
    std::vector<float> expected(model.config().vocab_size);
    REQUIRE(load_documents(model, at_once, plan, trip.blocks));
    REQUIRE(prefill(model, at_once, plan, expected));
    CHECK(logits == expected);
    CHECK(same_rows(cache, at_once));
  }
}

TEST_CASE("a layer that does not arrive, or is no layer, leaves an empty cache and its reason") {
  auto model = load_fixture("llama");
  std::vector<float> logits(model.config().vocab_size);
  for (const bool arrives : {false, true}) {
    CAPTURE(arrives);
    journey trip(model);
    kv_cache cache(model.cache_shape(), room);
    const auto done = prefill_while_loading(
        model, cache, trip.plan(stitch_policy::none), trip.blocks,
        [&](std::uint32_t layer) -> weft::result<void> {
          trip.bring(layer);
          if (layer < 1) return {};
          if (!arrives) return weft::fail(errc::unreachable, "the holder is gone");
          trip.documents.front().damage_counts(layer);
          return {};
        },
        logits);
    REQUIRE(!done);
    CHECK(done.error().code == (arrives ? errc::corrupt : errc::unreachable));
    CHECK(cache.rows(0, 0) == 0);
    CHECK(cache.rows(2, 1) == 0);
  }
}

TEST_CASE("what was damaged on the way is found before an answer is made of it") {
  auto model = load_fixture("llama");
  journey trip(model);
  for (std::uint32_t layer = 0; layer < model.config().layers; ++layer)
    trip.bring(layer);
  CHECK(verify_documents(model, trip.blocks));
  trip.documents.back().damage();
  CHECK(verify_documents(model, trip.blocks).error().code == errc::corrupt);
}

TEST_CASE("plans that need whole documents first are refused") {
  auto model = load_fixture("llama");
  journey trip(model);
  kv_cache cache(model.cache_shape(), room), small(model.cache_shape(), 100);
  std::vector<float> logits(model.config().vocab_size);
  const auto nothing = [](std::uint32_t) -> weft::result<void> { return {}; };
  const auto code_of = [&](kv_cache& into, const stitch_plan& plan, std::vector<document_blocks> blocks) {
    const auto done = prefill_while_loading(model, into, plan, blocks, nothing, logits);
    return done ? errc::ok : done.error().code;
  };
  const std::vector<document_blocks> none(2);
  CHECK(code_of(cache, trip.plan(stitch_policy::blend(150'000)), trip.blocks) == errc::unsupported);
  CHECK(code_of(cache, trip.plan(stitch_policy::none, false), none) == errc::unsupported);
  CHECK(code_of(small, trip.plan(stitch_policy::none), trip.blocks) == errc::out_of_space);
  CHECK(code_of(cache, trip.plan(stitch_policy::none), {trip.blocks.front()}) == errc::invalid_argument);
}
