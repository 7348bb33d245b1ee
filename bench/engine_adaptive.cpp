#include "engine_adaptive.hpp"

#include <weft/actors/node_passive_store.hpp>
#include <weft/engine/adaptive/session.hpp>
#include <weft/policies/adaptive/atskv.hpp>

#include "interleaved.hpp"

#include <chrono>
#include <cmath>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

namespace adaptive = policies::adaptive;

constexpr std::uint32_t prompt_tokens = 2048;
constexpr std::uint32_t head_rows = 512;
constexpr std::uint64_t staging_bytes = std::uint64_t{256} << 20;

void check(const result<void>& done) {
  if (!done) throw std::runtime_error(to_string(done.error()));
}

std::shared_ptr<const adaptive::relevance_predictor> some_predictor(const engine::model_config& config) {
  const adaptive::feature_layout layout{config.kv_heads, config.hidden_size};
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(layout.count())));
  std::vector<adaptive::layer_predictor> layers(config.layers);
  for (auto& layer : layers) {
    for (std::size_t i = 0; i < layout.count(); ++i)
      layer.input.push_back(normal(random));
    layer.bias = {0};
  }
  return std::make_shared<adaptive::relevance_predictor>(layout, std::move(layers), 1.0F);
}

// A prompt that was computed once, and sessions behind it.
class prompted_model {
 public:
  explicit prompted_model(engine::runner& model)
      : model_(model),
        whole_(model.cache_shape(), prompt_tokens),
        record_(model, prompt_tokens, whole_, {.hidden = true}),
        pool_(model.cache_shape()),
        logits_(model.config().vocab_size) {
    engine::row_batch batch;
    for (std::uint32_t row = 0; row < prompt_tokens; ++row)
      batch.add(static_cast<engine::token_id>(row * 7919 % model.config().vocab_size),
                static_cast<std::int32_t>(row), 0);
    engine::kv_cache* const caches[] = {&whole_};
    check(model.forward(batch, caches, {}, &record_));
  }

  std::unique_ptr<engine::adaptive_session> with_atskv(engine::passive_store& store) {
    return session(adaptive::make_atskv(engine::session_shape_of(model_.config()), {.rows = head_rows},
                                        some_predictor(model_.config()))
                       .value(),
                   &store);
  }
  std::unique_ptr<engine::adaptive_session> with_window() {
    return session(adaptive::make_baseline(engine::session_shape_of(model_.config()),
                                           {.chosen = adaptive::method::sliding_window, .rows = head_rows})
                       .value(),
                   nullptr);
  }

  interleaved_times measure(engine::adaptive_session& ours, engine::adaptive_session& limit,
                            unsigned rounds) {
    return measure_beside(
        rounds, [&] { check(ours.step(17, 0, logits_)); }, [&] { check(limit.step(17, 0, logits_)); });
  }

 private:
  std::unique_ptr<engine::adaptive_session> session(std::unique_ptr<adaptive::cache_policy> policy,
                                                    engine::passive_store* store) {
    auto made = std::make_unique<engine::adaptive_session>(model_, pool_, std::move(policy), store);
    check(made->start(whole_, record_, {}));
    return made;
  }

  engine::runner& model_;
  engine::kv_cache whole_;
  engine::prompt_record record_;
  engine::row_page_pool pool_;
  std::vector<float> logits_;
};

}  // namespace

report_row measure_adaptive_step(engine::runner& model, unsigned rounds) {
  prompted_model prompted(model);
  engine::local_passive_store store;
  const auto ours = prompted.with_atskv(store);
  const auto window = prompted.with_window();
  const auto times = prompted.measure(*ours, *window, rounds);
  return {.name = "engine: decode step with ATSKV, 512 of 2048 rows, Llama-3.2-1B",
          .operation = "decode",
          .limit_name = "the step with a sliding window",
          .ratio = times.ratio,
          .tokens_per_s = 1.0 / times.seconds};
}

report_row measure_promotions(engine::runner& model, pool_holder& holder, unsigned rounds) {
  check(holder.start());
  const auto member = pool_member::join(holder.plan(), staging_bytes);
  if (!member) throw std::runtime_error(to_string(member.error()));
  auto& node = (*member)->node();
  prompted_model prompted(model);
  actors::node_passive_store store(node.blocks(), node.room(),
                                   {.session = 1, .patience = std::chrono::seconds(10)});
  const auto ours = prompted.with_atskv(store);
  const auto window = prompted.with_window();
  if (store.flush() > 0) throw std::runtime_error("the other process did not take all pages");
  const auto times = prompted.measure(*ours, *window, rounds);
  const auto& counted = ours->counters();
  const auto promoted = static_cast<double>(counted.pages_promoted);
  return {.name = "engine: promotions that are there when their layer begins, 512 of 2048 rows, Llama-3.2-1B",
          .operation = "promotion",
          .limit_name = "the step with a sliding window",
          .ratio = times.ratio,
          .tokens_per_s = 1.0 / times.seconds,
          .transport = holder.plan().transport,
          .batch = counted.pages_promoted / counted.steps,
          .hit_rate = promoted > 0 ? static_cast<double>(counted.pages_on_time) / promoted : 0.0};
}

}  // namespace weft::bench
