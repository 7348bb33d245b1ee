#include "sparse_prompts.hpp"

#include <weft/engine/sampler.hpp>
#include <weft/engine/stitch.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <algorithm>
#include <cstring>
#include <span>
#include <utility>

namespace weft::engine::test {

namespace retrieval = policies::retrieval;

namespace {

// Takes rows of documents away, of each head others and of some heads nearly all.
void drop_rows(kv_cache& cache) {
  const kv_shape& shape = cache.shape();
  const std::size_t row_bytes = shape.head_dim * kernels::size_bytes(shape.dtype);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      std::uint32_t to = 0;
      for (std::uint32_t from = 0; from < cache.rows(layer, head); ++from) {
        const auto position = static_cast<std::uint32_t>(cache.positions(layer, head)[from]);
        const std::uint32_t lot = (position * 2654435761U >> 16U) % 32;
        if (lot >= (head % 2 == 0 ? 20U : 2U) + layer) continue;
        std::memmove(cache.k(layer, head) + to * row_bytes, cache.k(layer, head) + from * row_bytes,
                     row_bytes);
        std::memmove(cache.v(layer, head) + to * row_bytes, cache.v(layer, head) + from * row_bytes,
                     row_bytes);
        cache.positions(layer, head)[to] = cache.positions(layer, head)[from];
        cache.segments(layer, head)[to] = cache.segments(layer, head)[from];
        ++to;
      }
      cache.set_rows(layer, head, to);
    }
}

}  // namespace

prompt dense_prompt(runner& model, std::uint32_t stride, kept rows_kept) {
  prompt made{.encoded = {},
              .documents = {},
              .whole = kv_cache(model.cache_shape(), 400),
              .recent = recent_queries(model.config(), stride),
              .logits = {}};
  row_batch rows;
  add_rows(rows, some_tokens(5, 1), 0);
  std::int32_t position = 5;
  for (const std::uint32_t tokens : {70U, 3U, 101U}) {
    made.encoded.push_back(encode_document(model, some_tokens(tokens, tokens)).value());
    made.documents.push_back({position, tokens});
    position += static_cast<std::int32_t>(tokens);
  }
  for (std::size_t i = 0; i < made.encoded.size(); ++i)
    REQUIRE(scatter_document(model, made.whole, made.encoded[i], made.documents[i].start_position,
                             static_cast<std::int32_t>(i + 1)));
  if (rows_kept == kept::some) drop_rows(made.whole);
  add_rows(rows, some_tokens(11, 9), position);
  rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  made.logits.resize(model.config().vocab_size);
  kv_cache* const caches[] = {&made.whole};
  REQUIRE(model.forward(rows, caches, made.logits, &made.recent));
  made.next_position = position + 11;
  return made;
}

std::vector<token_id> dense_answer(runner& model, prompt& asked) {
  std::vector<token_id> answer;
  kv_cache* const caches[] = {&asked.whole};
  std::vector<float> logits = asked.logits;
  for (std::uint32_t i = 0; i < answer_tokens; ++i) {
    answer.push_back(greedy_token(logits));
    row_batch row;
    row.add(answer.back(), asked.next_position + static_cast<std::int32_t>(i), 0);
    row.logits_rows = {0};
    REQUIRE(model.forward(row, caches, logits));
  }
  asked.whole.truncate(asked.next_position);
  return answer;
}

std::vector<std::uint32_t> most_rows(prompt& asked, const retrieval::options& options) {
  const kv_shape& shape = asked.whole.shape();
  const auto plan = retrieval::plan_blocks(asked.documents, options);
  std::vector<std::uint32_t> most(std::size_t{shape.layers} * shape.kv_heads, 0);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      for (const auto& block : plan.middle_blocks()) {
        const std::span positions(asked.whole.positions(layer, head), asked.whole.rows(layer, head));
        const auto rows = std::ranges::count_if(positions, [&](std::int32_t position) {
          return position >= block.start_position &&
                 position < block.start_position + static_cast<std::int32_t>(options.block_tokens);
        });
        auto& of_head = most[std::size_t{layer} * shape.kv_heads + head];
        of_head = std::max(of_head, static_cast<std::uint32_t>(rows));
      }
  return most;
}

sparse_answer answer_with(runner& model, prompt& asked, const retrieval::options& options,
                          sparse_context& sparse, bool late) {
  counting_source source(cached_blocks(asked.whole, sparse.plan().middle_blocks(), options.block_tokens),
                         late);
  auto resident = sparse.start(asked.whole, answer_tokens, asked.recent, source);
  REQUIRE_MESSAGE(resident.has_value(), resident.error().context);
  CHECK(resident->capacity_rows(0, 0) == resident->rows(0, 0) + answer_tokens);
  if (std::cmp_equal(asked.whole.rows(0, 0), asked.next_position)) {
    const std::uint32_t elsewhere = sparse.plan().middle * options.block_tokens;
    CHECK(resident->rows(0, 0) == asked.whole.rows(0, 0) - elsewhere);
  }
  kv_cache* const caches[] = {&*resident};
  sparse_answer found{.tokens = {}, .logits = asked.logits, .counters = {}};
  for (std::uint32_t i = 0; i < answer_tokens; ++i) {
    found.tokens.push_back(greedy_token(found.logits));
    row_batch row;
    row.add(found.tokens.back(), asked.next_position + static_cast<std::int32_t>(i), 0);
    row.logits_rows = {0};
    REQUIRE(sparse.begin_step());
    REQUIRE(model.forward(row, caches, found.logits, &sparse));
    REQUIRE(sparse.end_step());
  }
  found.counters = sparse.counters();
  found.fetched = source.fetched;
  return found;
}

sparse_answer answer_sparsely(runner& model, prompt& asked, const retrieval::options& options, bool late) {
  sparse_context sparse(model, options, asked.documents, most_rows(asked, options));
  for (std::uint32_t i = 0; i < asked.encoded.size(); ++i)
    sparse.add_document(i, asked.encoded[i]);
  return answer_with(model, asked, options, sparse, late);
}

retrieval::options small_blocks(retrieval::policy policy, double ratio, std::uint32_t stride) {
  return {.chosen = policy, .block_tokens = 8, .sparse_ratio = ratio, .stride = stride};
}

}  // namespace weft::engine::test
