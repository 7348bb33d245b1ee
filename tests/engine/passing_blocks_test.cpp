#include <weft/engine/sampler.hpp>
#include <weft/engine/sparse_context.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"
#include "sparse_prompts.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

using namespace weft::engine;
using namespace weft::engine::test;
namespace retrieval = weft::policies::retrieval;
namespace kernels = weft::kernels;

namespace {

// What lies here of a prompt whose middle blocks do not: the documents' other rows, nothing computed.
kv_cache without_middle(runner& model, prompt& asked, const retrieval::block_plan& plan,
                        std::uint32_t block_tokens) {
  const kv_shape& shape = model.cache_shape();
  kv_cache resident(shape, 400);
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  const auto is_middle = [&](std::int32_t position) {
    return std::ranges::any_of(plan.middle_blocks(), [&](const retrieval::context_block& block) {
      return position >= block.start_position &&
             position < block.start_position + static_cast<std::int32_t>(block_tokens);
    });
  };
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      std::uint32_t to = 0;
      for (std::uint32_t from = 0; from < asked.whole.rows(layer, head); ++from) {
        if (asked.whole.segments(layer, head)[from] == 0) continue;
        if (is_middle(asked.whole.positions(layer, head)[from])) continue;
        std::copy_n(asked.whole.k(layer, head) + from * row_bytes, row_bytes,
                    resident.k(layer, head) + to * row_bytes);
        std::copy_n(asked.whole.v(layer, head) + from * row_bytes, row_bytes,
                    resident.v(layer, head) + to * row_bytes);
        resident.positions(layer, head)[to] = asked.whole.positions(layer, head)[from];
        resident.segments(layer, head)[to] = asked.whole.segments(layer, head)[from];
        ++to;
      }
      resident.set_rows(layer, head, to);
    }
  return resident;
}

row_batch prompt_rows(const prompt& asked) {
  row_batch rows;
  add_rows(rows, some_tokens(5, 1), 0);
  add_rows(rows, some_tokens(11, 9), asked.next_position - 11);
  rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  return rows;
}

// Loses every block that is asked for after so many loads.
class failing_source final : public block_source {
 public:
  failing_source(cached_blocks inner, std::size_t good) : inner_(std::move(inner)), good_(good) {}

  void begin(std::span<const block_load> loads) override {
    for (const auto& load : loads) {
      if (good_ > 0)
        inner_.begin({&load, 1});
      else
        lost_.push_back(load);
      good_ -= std::min<std::size_t>(good_, 1);
    }
  }
  bool arrived() override { return true; }
  weft::result<void> wait() override { return {}; }
  std::vector<block_load> take_lost() override { return std::exchange(lost_, {}); }

 private:
  cached_blocks inner_;
  std::size_t good_;
  std::vector<block_load> lost_;
};

}  // namespace

TEST_CASE("a prompt against blocks that pass by gives the logits and answers of a whole one") {
  auto model = load_fixture("llama");
  for (const auto policy : every_policy)
    for (const auto& part : {std::pair{0.04, kept::all},
                             {0.3, kept::all},
                             {1.0, kept::all},
                             {0.04, kept::some},
                             {0.3, kept::some},
                             {1.0, kept::some}}) {
      const double ratio = part.first;
      CAPTURE(std::string{retrieval::name_of(policy)});
      CAPTURE(ratio);
      auto asked = dense_prompt(model, 3, part.second);
      const auto options = small_blocks(policy, ratio);
      const auto from_whole = answer_sparsely(model, asked, options, false);

      sparse_context sparse(model, options, asked.documents, most_rows(asked, options));
      for (std::uint32_t i = 0; i < asked.encoded.size(); ++i)
        sparse.add_document(i, asked.encoded[i]);
      counting_source source(cached_blocks(asked.whole, sparse.plan().middle_blocks(), options.block_tokens),
                             true);
      kv_cache resident = without_middle(model, asked, sparse.plan(), options.block_tokens);
      std::vector<float> logits(model.config().vocab_size);
      kv_cache* const caches[] = {&resident};
      sparse.open(source);
      REQUIRE(model.forward(prompt_rows(asked), caches, logits, &sparse));
      REQUIRE(sparse.start_decoding());
      for (std::size_t i = 0; i < logits.size(); ++i)
        REQUIRE(logits[i] == doctest::Approx(asked.logits[i]).epsilon(1e-3));
      CHECK(source.fetched >= std::size_t{model.config().layers} * sparse.plan().middle);
      std::vector<token_id> tokens;
      for (std::uint32_t i = 0; i < answer_tokens; ++i) {
        tokens.push_back(greedy_token(logits));
        row_batch row;
        row.add(tokens.back(), asked.next_position + static_cast<std::int32_t>(i), 0);
        row.logits_rows = {0};
        REQUIRE(sparse.begin_step());
        REQUIRE(model.forward(row, caches, logits, &sparse));
        REQUIRE(sparse.end_step());
      }
      CHECK(tokens == from_whole.tokens);
    }
}

TEST_CASE("blocks that nobody delivers end a prompt, and are left out of a step") {
  auto model = load_fixture("llama");
  auto asked = dense_prompt(model, 3);
  const auto options = small_blocks(retrieval::policy::quest, 0.3);
  sparse_context sparse(model, options, asked.documents);
  for (std::uint32_t i = 0; i < asked.encoded.size(); ++i)
    sparse.add_document(i, asked.encoded[i]);
  const auto whole = [&] {
    return cached_blocks(asked.whole, sparse.plan().middle_blocks(), options.block_tokens);
  };
  std::vector<float> logits(model.config().vocab_size);
  {
    kv_cache resident = without_middle(model, asked, sparse.plan(), options.block_tokens);
    kv_cache* const caches[] = {&resident};
    failing_source source(whole(), 3);
    sparse.open(source);
    REQUIRE(model.forward(prompt_rows(asked), caches, logits, &sparse));
    CHECK(sparse.start_decoding().error().code == weft::errc::unreachable);
  }
  failing_source source(whole(), 0);
  auto resident = sparse.start(asked.whole, 2, asked.recent, source);
  REQUIRE(resident);
  CHECK(sparse.counters().blocks_lost == std::size_t{model.config().layers} * sparse.plan().winners);
  kv_cache* const caches[] = {&*resident};
  row_batch row;
  row.add(greedy_token(asked.logits), asked.next_position, 0);
  row.logits_rows = {0};
  REQUIRE(sparse.begin_step());
  REQUIRE(model.forward(row, caches, logits, &sparse));
  REQUIRE(sparse.end_step());
  CHECK(std::ranges::all_of(logits, [](float value) { return std::isfinite(value); }));
}
