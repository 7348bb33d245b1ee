#include <weft/bench/engine.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/products.hpp>

#include "interleaved.hpp"
#include "kernels_run.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "value_of.hpp"

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

namespace retrieval = policies::retrieval;

constexpr std::uint32_t question_rows = 16;
constexpr std::uint32_t chunk_rows = 512;

// Of the shipped model.
engine::model_config recall_shape() {
  engine::model_config config;
  config.layers = 4;
  config.hidden_size = 128;
  config.intermediate_size = 384;
  config.query_heads = 4;
  config.kv_heads = 2;
  config.head_dim = 32;
  config.vocab_size = 1280;
  config.max_context_tokens = 65536;
  config.rope = {.theta = 100000.0};
  config.tied_embeddings = true;
  return config;
}

struct sparse_case {
  std::string shape;
  std::uint32_t block_tokens;
  unsigned steps_of_round;
  std::vector<std::uint32_t> depths;
};

// Steps that see all rows and steps that see a quarter of the blocks, behind the same document. Its keys and
// values are noise, the tokens of the answer are a few in turn.
class sparse_steps {
 public:
  sparse_steps(engine::runner& model, std::uint32_t depth, std::uint32_t block_tokens, std::uint32_t steps)
      : model_(model),
        document_(model.cache_shape(), depth),
        dense_(model.cache_shape(), depth + question_rows + steps),
        options_({.chosen = retrieval::policy::kvstar_ahead,
                  .block_tokens = block_tokens,
                  .scale = retrieval::usual_scale(retrieval::policy::kvstar_ahead)}),
        placed_({0, depth}),
        sparse_(model, options_, {&placed_, 1}),
        source_(dense_, sparse_.plan().middle_blocks(), block_tokens),
        logits_(model.config().vocab_size),
        dense_position_(static_cast<std::int32_t>(depth + question_rows)),
        sparse_position_(dense_position_) {
    const auto noise = random_bf16(document_.allocated_bytes(), model.threads());
    std::memcpy(document_.k(), noise.data(), document_.allocated_bytes() / 2);
    std::memcpy(document_.v(), noise.data(), document_.allocated_bytes() / 2);
    value_of(engine::scatter_document(model, dense_, document_, 0, 1));
    sparse_.add_document(0, document_);
    engine::row_batch question;
    for (std::uint32_t row = 0; row < question_rows; ++row)
      question.add(token_of(row), static_cast<std::int32_t>(depth + row), 0);
    engine::recent_queries recent(model.config(), options_.stride);
    engine::kv_cache* const caches[] = {&dense_};
    value_of(model.forward(question, caches, {}, &recent));
    resident_.emplace(value_of(sparse_.start(dense_, steps, recent, source_)));
  }

  void dense_step() { step(dense_, dense_position_++, nullptr); }

  void sparse_step() {
    value_of(sparse_.begin_step());
    step(*resident_, sparse_position_++, &sparse_);
    value_of(sparse_.end_step());
  }

  // Of the blocks that were chosen: those that lay in a slot already.
  double kept_share() const {
    const auto& counted = sparse_.counters();
    return 1 - static_cast<double>(counted.blocks_moved) /
                   static_cast<double>(counted.rankings * sparse_.plan().winners);
  }

 private:
  static engine::token_id token_of(std::uint32_t row) { return row % 8 * 7 + 11; }

  void step(engine::kv_cache& cache, std::int32_t position, engine::forward_observer* observer) {
    row_.clear();
    row_.add(token_of(static_cast<std::uint32_t>(position)), position, 0);
    row_.logits_rows.push_back(0);
    engine::kv_cache* const caches[] = {&cache};
    value_of(model_.forward(row_, caches, logits_, observer));
  }

  engine::runner& model_;
  engine::encoded_document document_;
  engine::kv_cache dense_;
  retrieval::options options_;
  retrieval::context_document placed_;
  engine::sparse_context sparse_;
  engine::cached_blocks source_;
  std::optional<engine::kv_cache> resident_;
  engine::row_batch row_;
  std::vector<float> logits_;
  std::int32_t dense_position_, sparse_position_;
};

void measure_shape(const engine_options& options, const engine::model_config& config, const sparse_case& what,
                   report& out) {
  auto model = value_of(
      engine::runner::with_random_weights(config, {.threads = options.threads, .chunk_rows = chunk_rows}, 1));
  out.machine = {cpu_name(), model.threads().threads(), kernels::native_bf16_products()};
  for (const std::uint32_t depth : what.depths) {
    sparse_steps steps(model, depth, what.block_tokens, (options.rounds + 1) * what.steps_of_round);
    const auto some = [&what](auto&& step) {
      for (unsigned i = 0; i < what.steps_of_round; ++i)
        step();
    };
    const auto times = measure_beside(
        options.rounds, [&] { some([&] { steps.sparse_step(); }); },
        [&] { some([&] { steps.dense_step(); }); });
    report_row row{.name = "sparse: decode step with kvstar_ahead behind " + std::to_string(depth) +
                           " rows, " + what.shape,
                   .operation = "decode",
                   .limit_name = "the step that sees all rows",
                   .ratio = times.ratio,
                   .tokens_per_s = what.steps_of_round / times.seconds,
                   .hit_rate = steps.kept_share()};
    if (options.progress) options.progress(row);
    out.rows.push_back(std::move(row));
  }
}

}  // namespace

report run_sparse(const engine_options& options) {
  report report;
  measure_shape(options, recall_shape(),
                {.shape = "the shipped model's shape",
                 .block_tokens = 16,
                 .steps_of_round = 200,
                 .depths = {512, 2048, 8192}},
                report);
  measure_shape(options, llama_3_2_1b(),
                {.shape = "Llama-3.2-1B", .block_tokens = 64, .steps_of_round = 2, .depths = {2048, 8192}},
                report);
  return report;
}

}  // namespace weft::bench
