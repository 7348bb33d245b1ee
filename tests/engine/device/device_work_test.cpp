// How much goes to a device and back for what is asked of it.
#include <weft/device/host_device.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/stitch.hpp>

#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_options.hpp"

#include <memory>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::device::host_device;
using weft::device::stream_counts;
using weft::policies::stitch_policy;

namespace {

constexpr std::uint32_t room = 128;
constexpr std::uint32_t block_tokens = 16;
constexpr float tolerance = 2e-2F;

// The same model on the CPU and on a device whose work is counted, and a stored document.
struct counted {
  counted()
      : cpu(load_fixture("llama", options_on(nullptr))),
        there(load_fixture("llama", options_on(on))),
        document(encoded()) {
    blocks.push_back(document.blocks());
    const std::vector<weft::policies::prompt_document> listed{{text, true}};
    auto made = weft::policies::plan_stitch(stitch_policy::none, {opening, listed, question});
    REQUIRE(made);
    plan = std::move(*made);
  }

  stored_document encoded() {
    const auto encoded = encode_document(cpu, text);
    REQUIRE(encoded);
    return {*encoded, block_tokens};
  }

  template <class Work>
  stream_counts counts_of(const Work& work) const {
    auto& device = dynamic_cast<host_device&>(*on->memory);
    const auto before = device.counts();
    work();
    const auto after = device.counts();
    return {.uploads = after.uploads - before.uploads,
            .upload_bytes = after.upload_bytes - before.upload_bytes,
            .downloads = after.downloads - before.downloads,
            .download_bytes = after.download_bytes - before.download_bytes,
            .kernels = after.kernels - before.kernels,
            .waits = after.waits - before.waits};
  }

  std::vector<float> loaded(runner& model, kv_cache& cache) const {
    std::vector<float> logits(model.config().vocab_size);
    const auto done = load_documents(model, cache, plan, blocks);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    REQUIRE(prefill(model, cache, plan, logits));
    return logits;
  }

  std::vector<float> layer_by_layer(runner& model, kv_cache& cache) const {
    std::vector<float> logits(model.config().vocab_size);
    const auto done = prefill_while_loading(
        model, cache, plan, blocks, [](std::uint32_t) { return weft::result<void>{}; }, logits);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    return logits;
  }

  kv_cache cache() const { return {cpu.cache_shape(), room}; }

  // Of the text's rows, which nobody observes.
  stream_counts computing() {
    kv_cache alone(there.cache_shape(), static_cast<std::uint32_t>(text.size()));
    row_batch batch;
    add_rows(batch, text, 0, 1);
    kv_cache* const caches[] = {&alone};
    return counts_of([&] { REQUIRE(there.forward(batch, caches, {})); });
  }

  std::vector<token_id> opening = some_tokens(3, 1), text = some_tokens(40, 2), question = some_tokens(5, 4);
  std::shared_ptr<const compute_device> on = host_compute_device(std::size_t{64} << 20U);
  runner cpu, there;
  stored_document document;
  std::vector<document_blocks> blocks;
  weft::policies::stitch_plan plan;
};

}  // namespace

TEST_CASE("a layered load downloads nothing but new rows and logits, and waits no more than another prompt") {
  counted c;
  auto here = c.cache();
  auto whole = c.cache();
  auto layered = c.cache();
  const auto expected = c.loaded(c.cpu, here);
  std::vector<float> logits;
  const auto at_once = c.counts_of([&] { c.loaded(c.there, whole); });
  const auto by_layers = c.counts_of([&] { logits = c.layer_by_layer(c.there, layered); });
  CHECK(distance(expected, logits) <= tolerance);
  CHECK(by_layers.downloads == c.cpu.config().layers + 1);
  CHECK(by_layers.downloads == at_once.downloads);
  CHECK(by_layers.download_bytes == at_once.download_bytes);
  CHECK(by_layers.waits <= at_once.waits);
}

TEST_CASE("a document that is encoded on a device comes back once") {
  counted c;
  const auto shape = c.cpu.cache_shape();
  const std::size_t rows_bytes = 2 * c.text.size() * shape.layers * shape.kv_heads * shape.row_bytes();
  const auto counts = c.counts_of([&] { REQUIRE(encode_document(c.there, c.text)); });
  CHECK(counts.downloads == shape.layers);
  CHECK(counts.download_bytes == rows_bytes);
}

TEST_CASE("passes that count attention bring back new rows and what they counted, and wait once each") {
  counted c;
  const repeat_prompt prompt{.prefix = {7, 8, 9},
                             .later_prefix = {},
                             .suffix = {12},
                             .hint_tokens = 0,
                             .hint_from = hint_source::none};
  const auto tokens = static_cast<std::uint32_t>(c.text.size());
  const scoring_request request{.tokens = c.text, .repeat = &prompt, .chunks = {{0, tokens, 0}}};
  const std::size_t repeated = prompt.prefix.size() + prompt.suffix.size() + tokens;
  kv_cache cache(c.there.cache_shape(), scoring_capacity_rows(request));
  row_scorer scorer(c.there);
  REQUIRE(scorer.score(cache, request));  // memory grows
  cache.truncate(0);
  const auto counts = c.counts_of([&] { REQUIRE(scorer.score(cache, request)); });
  const auto shape = c.there.cache_shape();
  const std::size_t row_bytes = 2 * std::size_t{shape.layers} * shape.kv_heads * shape.row_bytes();
  const std::size_t columns_bytes =
      std::size_t{shape.layers} * c.there.config().query_heads * tokens * sizeof(float);
  CHECK(counts.downloads == 3 * shape.layers);
  CHECK(counts.download_bytes == (tokens + repeated) * row_bytes + columns_bytes);
  CHECK(counts.waits == 2 * c.computing().waits);
}

TEST_CASE("scores of attention come back with the rows that give it, and nothing waits for them") {
  counted c;
  using weft::policies::importance_policy;
  c.computing();  // memory grows
  for (const auto policy : {importance_policy::h2o, importance_policy::snapkv, importance_policy::tova}) {
    const scoring_request request{.policy = policy, .tokens = c.text};
    kv_cache cache(c.there.cache_shape(), scoring_capacity_rows(request));
    row_scorer scorer(c.there);
    const auto counts = c.counts_of([&] { REQUIRE(scorer.score(cache, request)); });
    const auto shape = c.there.cache_shape();
    const std::size_t row_bytes = 2 * std::size_t{shape.layers} * shape.kv_heads * shape.row_bytes();
    const std::size_t columns_bytes =
        std::size_t{shape.layers} * c.there.config().query_heads * sizeof(float);
    CHECK(counts.downloads == 2 * shape.layers);
    CHECK(counts.download_bytes == c.text.size() * (row_bytes + columns_bytes));
    CHECK(counts.waits == c.computing().waits);
  }
}

TEST_CASE("a pass uploads nothing of documents that came to the device out of blocks") {
  counted c;
  auto staged = c.cache();
  auto uploaded = c.cache();
  std::vector<float> logits(c.cpu.config().vocab_size);
  REQUIRE(load_documents(c.there, staged, c.plan, c.blocks));
  REQUIRE(load_documents(c.cpu, uploaded, c.plan, c.blocks));
  const auto passing = [&](kv_cache& cache) {
    return c.counts_of([&] { REQUIRE(prefill(c.there, cache, c.plan, logits)); });
  };
  const auto shape = c.cpu.cache_shape();
  const std::size_t row_bytes = 2 * (shape.row_bytes() + sizeof(std::int32_t));
  // With the places of the question's rows, which are new.
  CHECK(passing(uploaded).upload_bytes ==
        passing(staged).upload_bytes + c.plan.prompt_tokens * shape.layers * shape.kv_heads * row_bytes);
}

TEST_CASE("documents that come to a device alone cost the copies of those that come here as well") {
  counted c;
  auto both = c.cache();
  auto alone = c.cache();
  std::vector<float> logits(c.cpu.config().vocab_size);
  const auto loading = [&](kv_cache& cache, loaded_rows wanted) {
    return c.counts_of([&] { REQUIRE(load_documents(c.there, cache, c.plan, c.blocks, wanted)); });
  };
  c.loaded(c.there, both);  // memory grows
  both.truncate(0);
  const auto as_well = loading(both, loaded_rows::here);
  const auto only = loading(alone, loaded_rows::where_computed);
  CHECK(only.uploads == as_well.uploads);
  CHECK(only.upload_bytes == as_well.upload_bytes);
  CHECK(only.downloads == 0);
  CHECK(only.kernels == as_well.kernels);
  CHECK(only.waits == as_well.waits);

  const auto passing = [&](kv_cache& cache) {
    return c.counts_of([&] { REQUIRE(prefill(c.there, cache, c.plan, logits)); });
  };
  const auto over_both = passing(both);
  const auto over_alone = passing(alone);
  CHECK(over_alone.upload_bytes == over_both.upload_bytes);
  CHECK(over_alone.download_bytes == over_both.download_bytes);
  CHECK(over_alone.waits == over_both.waits);

  const auto shape = c.cpu.cache_shape();
  const std::size_t lists = std::size_t{2} * shape.layers * shape.kv_heads;
  const auto coming_home = c.counts_of([&] { REQUIRE(alone.bring_home()); });
  CHECK(coming_home.downloads == lists);
  CHECK(coming_home.download_bytes == lists * c.plan.prompt_tokens * shape.row_bytes());
  CHECK(coming_home.uploads == 0);
  CHECK(coming_home.waits == 1);
}

TEST_CASE("the first layers are computed before the last ones are on their way") {
  counted c;
  auto cache = c.cache();
  auto& device = dynamic_cast<host_device&>(*c.on->memory);
  std::vector<float> logits(c.cpu.config().vocab_size);
  std::vector<std::uint64_t> waits;
  REQUIRE(prefill_while_loading(
      c.there, cache, c.plan, c.blocks,
      [&](std::uint32_t) -> weft::result<void> {
        waits.push_back(device.counts().waits);
        return {};
      },
      logits));
  REQUIRE(waits.size() == c.cpu.config().layers);
  CHECK(waits.front() == waits.back());  // nobody waited for the device in between
}
