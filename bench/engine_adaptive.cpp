#include <weft/actors/node_passive_store.hpp>
#include <weft/bench/engine.hpp>
#include <weft/engine/adaptive/session.hpp>
#include <weft/kernels/products.hpp>
#include <weft/policies/adaptive/atskv.hpp>

#include "interleaved.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "pool_cluster.hpp"
#include "scratch_folder.hpp"
#include "value_of.hpp"

#include <chrono>
#include <cmath>
#include <filesystem>
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
constexpr std::uint32_t chunk_rows = 512;
constexpr std::uint64_t staging_bytes = std::uint64_t{256} << 20;
constexpr std::uint64_t passive_bytes = std::uint64_t{512} << 20;  // of the other process
// A step is short: a round has some.
constexpr unsigned steps_of_round = 8;

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

// Sessions behind one prompt.
class adaptive_run {
 public:
  adaptive_run(const engine_options& options, pool_holder& holder)
      : options_(options),
        holder_(holder),
        model_(value_of(engine::runner::with_random_weights(
            llama_3_2_1b(), {.threads = options.threads, .chunk_rows = chunk_rows}, 1))),
        whole_(model_.cache_shape(), prompt_tokens),
        record_(model_, prompt_tokens, whole_, {.hidden = true}),
        pool_(model_.cache_shape()),
        predictor_(some_predictor(model_.config())),
        logits_(model_.config().vocab_size) {}

  report run() {
    report_.machine = {cpu_name(), model_.threads().threads(), kernels::native_bf16_products()};
    compute_prompt();
    window_ = session(
        value_of(adaptive::make_baseline(engine::session_shape_of(model_.config()),
                                         {.chosen = adaptive::method::sliding_window, .rows = head_rows})),
        nullptr);
    measure_alone();
    measure_local_store();
    measure_other_process();
    return std::move(report_);
  }

 private:
  void compute_prompt() {
    engine::row_batch batch;
    for (std::uint32_t row = 0; row < prompt_tokens; ++row)
      batch.add(static_cast<engine::token_id>(row * 7919 % model_.config().vocab_size),
                static_cast<std::int32_t>(row), 0);
    engine::kv_cache* const caches[] = {&whole_};
    value_of(model_.forward(batch, caches, {}, &record_));
  }

  std::unique_ptr<engine::adaptive_session> session(std::unique_ptr<adaptive::cache_policy> policy,
                                                    engine::passive_store* store) {
    auto made = std::make_unique<engine::adaptive_session>(model_, pool_, std::move(policy), store);
    value_of(made->start(whole_, record_, {}));
    return made;
  }

  std::unique_ptr<engine::adaptive_session> with_atskv(engine::passive_store* store) {
    return session(
        value_of(adaptive::make_atskv(engine::session_shape_of(model_.config()),
                                      {.rows = head_rows, .passive = store != nullptr}, predictor_)),
        store);
  }

  // The row of a session's steps beside those with a sliding window of as many rows.
  report_row steps_of(const std::string& what, engine::adaptive_session& ours) {
    const auto times = measure_beside(
        options_.rounds * steps_of_round, [&] { value_of(ours.step(17, 0, logits_)); },
        [&] { value_of(window_->step(17, 0, logits_)); });
    return {.name = "adaptive: decode step, " + what + ", 512 of 2048 rows, Llama-3.2-1B",
            .operation = "decode",
            .limit_name = "the step with a sliding window",
            .ratio = times.ratio,
            .tokens_per_s = 1.0 / times.seconds};
  }

  void measure_alone() {
    const auto ours = with_atskv(nullptr);
    add(steps_of("predictor and controller", *ours));
  }

  void measure_local_store() {
    engine::local_passive_store store;
    const auto ours = with_atskv(&store);
    add(counted(steps_of("a store in this process", *ours), *ours));
  }

  void measure_other_process() {
    value_of(holder_.start());
    const auto member = value_of(pool_member::join(holder_.plan(), staging_bytes));
    auto& node = member->node();
    actors::node_passive_store store(node.blocks(), node.room(),
                                     {.session = 1, .patience = std::chrono::seconds(10)});
    const auto ours = with_atskv(&store);
    if (store.flush() > 0) throw std::runtime_error("the other process did not take all pages");
    auto row = counted(steps_of("a store in another process", *ours), *ours);
    row.transport = holder_.plan().transport;
    add(std::move(row));
  }

  static report_row counted(report_row row, const engine::adaptive_session& session) {
    const auto& counters = session.counters();
    if (counters.pages_lost > 0) throw std::runtime_error("pages of the passive store were lost");
    row.operation = "promotion";
    row.batch = counters.pages_promoted / counters.steps;
    if (counters.pages_promoted > 0)
      row.hit_rate =
          static_cast<double>(counters.pages_on_time) / static_cast<double>(counters.pages_promoted);
    return row;
  }

  void add(report_row row) {
    if (options_.progress) options_.progress(row);
    report_.rows.push_back(std::move(row));
  }

  const engine_options& options_;
  pool_holder& holder_;
  engine::runner model_;
  engine::kv_cache whole_;
  engine::prompt_record record_;
  engine::row_page_pool pool_;
  std::shared_ptr<const adaptive::relevance_predictor> predictor_;
  std::vector<float> logits_;
  std::unique_ptr<engine::adaptive_session> window_;
  report report_;
};

}  // namespace

report run_adaptive(const engine_options& options) {
  const scratch_folder folder(std::filesystem::temp_directory_path(), "weft-bench-adaptive-");
  // Before there are threads.
  auto holder =
      value_of(pool_holder::fork({.transport = "shm", .dram_bytes = passive_bytes, .folder = folder.path()}));
  return adaptive_run(options, holder).run();
}

}  // namespace weft::bench
