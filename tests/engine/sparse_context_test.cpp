#include <weft/engine/generation.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/kernels/convert.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "sparse_prompts.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <utility>
#include <vector>

using namespace weft::engine;
using namespace weft::engine::test;
namespace retrieval = weft::policies::retrieval;
namespace kernels = weft::kernels;

namespace {

// What happens to who wants to be called when a layer is ranked.
enum class ranked { before_that, meanwhile, not_in_time };

// Ranks as a context does by itself, and calls on a thread of its own.
class scorer_elsewhere final : public block_scorer {
 public:
  scorer_elsewhere(runner& model, prompt& asked, const retrieval::options& options, ranked when)
      : model_(model), when_(when), plan_(retrieval::plan_blocks(asked.documents, options)) {
    const model_config& config = model.config();
    const kv_shape shape = model.cache_shape();
    ranker_ = retrieval::make_ranker(
        options, retrieval::whole_context({.layers = config.layers,
                                           .query_heads = config.query_heads,
                                           .kv_heads = config.kv_heads,
                                           .head_dim = config.head_dim,
                                           .type = shape.dtype},
                                          asked.documents, plan_, model.rope_frequencies()));
    scores_.resize(config.layers, std::vector<float>(plan_.middle));
    for (std::uint32_t i = 0; i < asked.encoded.size(); ++i) {
      const encoded_document& document = asked.encoded[i];
      std::vector<float> keys(std::size_t{document.tokens()} * shape.head_dim);
      for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
        for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
          kernels::to_f32(shape.dtype,
                          document.k() + layer * document.layer_bytes() + head * document.head_bytes(),
                          keys.data(), keys.size());
          ranker_->add_keys(layer, head, i, keys);
        }
    }
  }

  void submit(std::span<const layer_group> asked) override {
    retrieval::shard_scores shard;
    for (const auto& [layer, group] : asked) {
      ranker_->score(layer, group, shard, model_.threads());
      retrieval::merge_shards({&shard, 1}, scores_[layer]);
    }
  }
  bool collect(std::uint32_t layer, std::span<float> scores) override {
    std::ranges::copy(scores_[layer], scores.begin());
    return true;
  }
  bool when_ranked(std::uint32_t, std::function<void()> ready) override {
    if (when_ == ranked::before_that) return false;
    ++waiting;
    if (when_ == ranked::meanwhile) calls_ = std::thread(std::move(ready));
    return true;
  }
  bool take_back() override {
    if (when_ == ranked::not_in_time) return true;
    calls_.join();
    return false;
  }

  std::size_t waiting = 0;

 private:
  runner& model_;
  ranked when_;
  retrieval::block_plan plan_;
  std::unique_ptr<retrieval::block_ranker> ranker_;
  std::vector<std::vector<float>> scores_;  // [layer][block]
  std::thread calls_;
};

}  // namespace

TEST_CASE("attending to every block is dense decoding, token by token") {
  auto model = load_fixture("llama");
  for (const auto policy : every_policy)
    for (const std::uint32_t stride : {1U, 3U, 8U}) {
      CAPTURE(std::string{retrieval::name_of(policy)});
      auto asked = dense_prompt(model, stride);
      const auto dense = dense_answer(model, asked);
      const auto sparse = answer_sparsely(model, asked, small_blocks(policy, 1.0, stride), false);
      CHECK(sparse.tokens == dense);
    }
}

TEST_CASE("attending to the rows that are left of every block is dense decoding over them") {
  auto model = load_fixture("llama");
  for (const auto policy : every_policy)
    for (const std::uint32_t stride : {1U, 3U}) {
      CAPTURE(std::string{retrieval::name_of(policy)});
      auto asked = dense_prompt(model, stride, kept::some);
      CHECK(asked.whole.rows(0, 1) < asked.whole.rows(0, 0) / 2);
      const auto dense = dense_answer(model, asked);
      const auto options = small_blocks(policy, 1.0, stride);
      const auto sparse = answer_sparsely(model, asked, options, false);
      CHECK(sparse.tokens == dense);
      const auto plan = retrieval::plan_blocks(asked.documents, options);
      std::uint64_t bytes = 0;
      for (std::uint32_t layer = 0; layer < model.config().layers; ++layer)
        for (std::uint32_t head = 0; head < model.config().kv_heads; ++head)
          for (std::uint32_t row = 0; row < asked.whole.rows(layer, head); ++row) {
            const auto position = asked.whole.positions(layer, head)[row];
            if (std::ranges::any_of(plan.middle_blocks(), [&](const auto& block) {
                  return position >= block.start_position &&
                         position < block.start_position + static_cast<std::int32_t>(options.block_tokens);
                }))
              bytes += 2 * asked.whole.shape().row_bytes();
          }
      CHECK(sparse.counters.bytes_moved == bytes);
    }
}

TEST_CASE("late rows are waited for and counted, and change nothing") {
  auto model = load_fixture("llama");
  for (const auto policy : {retrieval::policy::kvstar, retrieval::policy::kvstar_ahead}) {
    auto asked = dense_prompt(model, 3);
    const auto in_time = answer_sparsely(model, asked, small_blocks(policy, 0.3), false);
    const auto late = answer_sparsely(model, asked, small_blocks(policy, 0.3), true);
    CHECK(in_time.logits == late.logits);
    CHECK(in_time.counters.late_loads == 0);
    CHECK(late.counters.late_loads > 0);
    CHECK(late.fetched == late.counters.blocks_moved);
  }
}

TEST_CASE("blocks that are chosen while a layer computes are those that are chosen before it") {
  auto model = load_fixture("llama");
  const auto options = small_blocks(retrieval::policy::kvstar_ahead, 0.3);
  auto asked = dense_prompt(model, 3);
  for (const bool late : {false, true}) {
    const auto here = answer_sparsely(model, asked, options, late);
    for (const auto when : {ranked::before_that, ranked::meanwhile, ranked::not_in_time}) {
      scorer_elsewhere scorer(model, asked, options, when);
      sparse_context sparse(model, options, asked.documents, scorer, most_rows(asked, options));
      const auto there = answer_with(model, asked, options, sparse, late);
      CHECK(there.logits == here.logits);
      CHECK(there.fetched == here.fetched);
      CHECK(there.counters.rankings == here.counters.rankings);
      CHECK(scorer.waiting ==
            (when == ranked::before_that ? 0 : answer_tokens * (model.config().layers - 1)));
    }
  }
}

TEST_CASE("a step that breaks off takes back what was to be chosen ahead") {
  auto model = load_fixture("llama");
  const auto options = small_blocks(retrieval::policy::kvstar_ahead, 0.3);
  auto asked = dense_prompt(model, 3);
  for (const auto when : {ranked::meanwhile, ranked::not_in_time}) {
    scorer_elsewhere scorer(model, asked, options, when);
    sparse_context sparse(model, options, asked.documents, scorer, most_rows(asked, options));
    counting_source source(cached_blocks(asked.whole, sparse.plan().middle_blocks(), options.block_tokens),
                           false);
    REQUIRE(sparse.start(asked.whole, answer_tokens, asked.recent, source));
    const std::vector<float> queries(std::size_t{model.config().query_heads} * model.config().head_dim, 1.0F);
    REQUIRE(sparse.begin_step());
    sparse.queries_ahead(1, 0, 1, queries.data(), queries.size());
    REQUIRE(sparse.begin_step());
    sparse.queries_ahead(1, 0, 1, queries.data(), queries.size());  // ends with the context
  }
}

TEST_CASE("only blocks that are not resident move") {
  auto model = load_fixture("llama");
  for (const auto policy : every_policy) {
    auto asked = dense_prompt(model, 3);
    const auto sparse = answer_sparsely(model, asked, small_blocks(policy, 0.25), false);
    const std::uint32_t layers = model.config().layers;
    const auto plan = retrieval::plan_blocks(asked.documents, small_blocks(policy, 0.25));
    CAPTURE(std::string{retrieval::name_of(policy)});
    CHECK(sparse.counters.steps == answer_tokens);
    CHECK(sparse.fetched >= std::size_t{layers} * plan.winners);
    if (policy == retrieval::policy::full)
      CHECK(sparse.fetched == std::size_t{layers} * plan.middle);
    else
      CHECK(sparse.fetched < std::size_t{layers} * plan.winners * answer_tokens);
  }
}

TEST_CASE("a sparse step is attention over the resident rows and the chosen blocks alone") {
  auto model = load_fixture("llama");
  auto asked = dense_prompt(model, 4);
  const auto options = small_blocks(retrieval::policy::kvstar, 0.25, 4);
  sparse_context sparse(model, options, asked.documents);
  for (std::uint32_t i = 0; i < asked.encoded.size(); ++i)
    sparse.add_document(i, asked.encoded[i]);
  cached_blocks source(asked.whole, sparse.plan().middle_blocks(), options.block_tokens);
  auto resident = sparse.start(asked.whole, 1, asked.recent, source);
  REQUIRE(resident);

  // The same rows in one cache: what is not attended is taken out of a copy of the whole prompt.
  const kv_shape& shape = model.cache_shape();
  kv_cache expected(shape, 400);
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      std::set<std::vector<std::byte>> seen;
      std::uint32_t rows = 0;
      const auto add = [&](const std::byte* k, const std::byte* v, std::uint32_t count) {
        std::memcpy(expected.k(layer, head) + rows * row_bytes, k, count * row_bytes);
        std::memcpy(expected.v(layer, head) + rows * row_bytes, v, count * row_bytes);
        rows += count;
      };
      std::uint32_t chosen = 0;
      for (const auto& run : sparse.more_rows(layer, *resident, head)) {
        add(run.k, run.v, run.rows);
        chosen += run.rows;
      }
      CHECK(chosen == sparse.plan().winners * options.block_tokens);
      add(resident->k(layer, head), resident->v(layer, head), resident->rows(layer, head));
      for (std::uint32_t row = 0; row < rows; ++row) {
        expected.positions(layer, head)[row] = static_cast<std::int32_t>(row);
        expected.segments(layer, head)[row] = 0;
      }
      expected.set_rows(layer, head, rows);
    }
  row_batch row;
  row.add(7, asked.next_position, 0);
  row.logits_rows = {0};
  std::vector<float> sparse_logits(model.config().vocab_size);
  std::vector<float> expected_logits(sparse_logits.size());
  kv_cache* const sparse_caches[] = {&*resident};
  kv_cache* const expected_caches[] = {&expected};
  REQUIRE(sparse.begin_step());
  REQUIRE(model.forward(row, sparse_caches, sparse_logits, &sparse));
  REQUIRE(model.forward(row, expected_caches, expected_logits));
  CHECK(distance(sparse_logits, expected_logits) < 1e-4F);
}

TEST_CASE("a context without middle blocks decodes densely") {
  auto model = load_fixture("llama");
  auto asked = dense_prompt(model, 2);
  auto options = small_blocks(retrieval::policy::kvstar, 0.25, 2);
  options.block_tokens = 64;
  const auto dense = dense_answer(model, asked);
  CHECK(answer_sparsely(model, asked, options, false).tokens == dense);
}

TEST_CASE("recent queries are those of the last rows, over several passes") {
  auto model = load_fixture("llama");
  const auto& config = model.config();
  recent_queries recent(config, 3);
  const std::size_t width = std::size_t{config.query_heads} * config.head_dim;
  std::vector<float> rows(5 * width);
  for (std::size_t i = 0; i < rows.size(); ++i)
    rows[i] = static_cast<float>(i / width);
  recent.layer_queries(1, 0, 2, rows.data(), width);
  CHECK(recent.group(1).steps == 2);
  recent.layer_queries(1, 2, 2, rows.data() + 2 * width, width);
  const auto group = recent.group(1);
  CHECK(group.steps == 3);
  for (std::size_t step = 0; step < 3; ++step)
    CHECK(group.queries[step * group.step_stride] == static_cast<float>(step + 1));
}

TEST_CASE("sparse and dense sessions step together as each would alone") {
  auto model = load_fixture("llama");
  auto asked = dense_prompt(model, 3);
  const auto dense = dense_answer(model, asked);
  const auto options = small_blocks(retrieval::policy::kvstar_ahead, 0.3);
  const auto alone = answer_sparsely(model, asked, options, false);

  sparse_context sparse(model, options, asked.documents);
  for (std::uint32_t i = 0; i < asked.encoded.size(); ++i)
    sparse.add_document(i, asked.encoded[i]);
  cached_blocks source(asked.whole, sparse.plan().middle_blocks(), options.block_tokens);
  auto resident = sparse.start(asked.whole, answer_tokens, asked.recent, source);
  REQUIRE(resident);
  auto second = dense_prompt(model, 3);
  decode_batch batch(model);
  const generation_options how{.sampled = {}, .stop_tokens = {}, .max_tokens = answer_tokens};
  std::vector<token_id> sparse_tokens, dense_tokens;
  const auto add = [&](session_id id, kv_cache cache, sparse_context* context) {
    const auto first = batch.add(id, std::move(cache), asked.next_position, asked.logits, how, context);
    REQUIRE(first);
    (context != nullptr ? sparse_tokens : dense_tokens).push_back(first->token);
  };
  add(1, std::move(second.whole), nullptr);
  add(2, std::move(*resident), &sparse);
  while (batch.active() > 0) {
    const auto stepped = batch.step();
    REQUIRE(stepped);
    for (const auto& token : *stepped)
      (token.session == 2 ? sparse_tokens : dense_tokens).push_back(token.token);
  }
  CHECK(dense_tokens == dense);
  CHECK(sparse_tokens == alone.tokens);
}
