#include <weft/engine/question_queries.hpp>
#include <weft/kernels/rope.hpp>

#include <doctest/doctest.h>

#include "small_models.hpp"

#include <vector>

using namespace weft;
using namespace weft::engine;
using namespace weft::engine::test;

namespace {

// The queries of all rows of one layer, as attention sees them.
class all_queries final : public forward_observer {
 public:
  all_queries(std::uint32_t layer, std::size_t width) : layer_(layer), width_(width) {}
  void layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::uint32_t row = 0; layer == layer_ && row < rows; ++row)
      seen.insert(seen.end(), q + row * row_stride, q + row * row_stride + width_);
  }
  std::vector<float> seen;

 private:
  std::uint32_t layer_;
  std::size_t width_;
};

}  // namespace

TEST_CASE("a question's queries are those of attention without its rotation, also over several passes") {
  auto options = exact_options();
  options.chunk_rows = 5;
  auto model = load_recall(options);
  const auto& config = model.config();
  const auto prompt = some_tokens(13, 4);
  const std::size_t width = std::size_t{config.query_heads} * config.head_dim;
  constexpr std::uint32_t rows = 6;
  for (std::uint32_t layer = 0; layer < 2; ++layer) {
    auto found = question_queries(model, prompt, layer, rows);
    REQUIRE_MESSAGE(found.has_value(), found.error().context);
    REQUIRE(found->size() == rows * width);

    row_batch batch;
    add_rows(batch, prompt, 0);
    batch.logits_rows = {0};
    kv_cache cache(model.cache_shape(), 13);
    kv_cache* const caches[] = {&cache};
    std::vector<float> logits(config.vocab_size);
    all_queries expected(layer, width);
    REQUIRE(model.forward(batch, caches, logits, &expected));

    kernels::rotation_table table;
    table.assign(model.rope_frequencies(), 13 - rows, rows);
    kernels::rotate(found->data(), width, rows, config.query_heads, table, model.threads());
    for (std::size_t i = 0; i < found->size(); ++i)
      CHECK((*found)[i] == doctest::Approx(expected.seen[(13 - rows) * width + i]).epsilon(1e-4));
  }
}

TEST_CASE("rows or layers that are not there are refused") {
  auto model = load_recall(exact_options());
  const auto prompt = some_tokens(3, 4);
  CHECK(!question_queries(model, prompt, 1, 4));
  CHECK(!question_queries(model, prompt, 1, 0));
  CHECK(!question_queries(model, prompt, model.config().layers, 1));
}
