#include <weft/bench/ttft.hpp>
#include <weft/engine/layered_load.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/products.hpp>

#include "block_owner.hpp"
#include "interleaved.hpp"
#include "llama_shape.hpp"
#include "machine.hpp"
#include "scratch_folder.hpp"
#include "separate_cpus.hpp"
#include "ttft_pool.hpp"

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::uint32_t one_document_tokens = 512;
constexpr std::uint32_t question_tokens = 32;
constexpr unsigned repetitions = 5;  // of every way, before and after each recomputing

// Seconds. Layer by layer, load is the transfer alone, compute what is computed of layers that are all there,
// rotating included, and total that of both side by side, of which computing stood still for `waited`.
struct parts {
  double load = 0;
  double rotate = 0;
  double compute = 0;
  double total = 0;
  double waited = 0;
};

// A prompt: documents of equal length and a question; the tokens do not matter for time.
struct prompt {
  std::vector<std::vector<engine::token_id>> documents;
  std::vector<engine::token_id> question;

  prompt(std::uint32_t document_tokens, std::uint32_t vocabulary) {
    std::uint32_t next = 1;
    const auto some = [&](std::uint32_t count) {
      std::vector<engine::token_id> tokens(count);
      for (auto& token : tokens)
        token = static_cast<engine::token_id>((next += 7919) % vocabulary);
      return tokens;
    };
    for (std::uint32_t done = 0; done < document_tokens; done += one_document_tokens)
      documents.push_back(some(one_document_tokens));
    question = some(question_tokens);
  }

  result<policies::stitch_plan> plan(const policies::stitch_policy& policy) const {
    std::vector<policies::prompt_document> listed;
    for (const auto& tokens : documents)
      listed.push_back({tokens, true});
    return policies::plan_stitch(policy, {{}, listed, question});
  }
};

// One model, its prompts of one length, and all ways to their first token.
class ttft_run {
 public:
  ttft_run(std::string name, engine::runner& model, std::uint32_t tokens)
      : name_(std::move(name)),
        model_(model),
        tokens_(tokens),
        prompt_(tokens, model.config().vocab_size),
        logits_(model.config().vocab_size) {}

  // With a folder, out of a file there, too.
  result<void> prepare(std::vector<remote_blocks>& pools, const std::filesystem::path& folder);
  result<void> round(std::vector<remote_blocks>& pools);
  // Nothing is recomputed.
  result<void> measure_ways(std::vector<remote_blocks>& pools, unsigned times);
  std::vector<report_row> rows() const;

 private:
  struct way {
    std::string transport;
    bool by_layers = false;
    bool from_file = false;
    std::size_t pool = 0;
    std::vector<parts> times{};
    std::vector<double> ratios{};  // by round: recomputing / this
  };

  result<parts> recompute();
  result<parts> out_of(remote_blocks& pool);
  result<parts> layer_by_layer(remote_blocks& pool);
  result<void> compute_by_layers(remote_blocks::layers& layers, const engine::layer_arrival& wait);
  result<void> transfer_alone(remote_blocks& pool, parts& times);
  result<void> side_by_side(remote_blocks& pool, parts& times);
  result<void> measure(way& one, std::vector<remote_blocks>& pools);
  std::vector<engine::document_blocks> by_document(std::span<const block::view> blocks) const;
  report_row row_of(const way& measured) const;

  std::string name_;
  engine::runner& model_;
  std::uint32_t tokens_;
  prompt prompt_;
  std::vector<float> logits_;
  policies::stitch_plan reuse_, full_;
  std::vector<double> recomputed_;
  std::vector<way> ways_;
};

result<void> ttft_run::prepare(std::vector<remote_blocks>& pools, const std::filesystem::path& folder) {
  auto reuse = prompt_.plan(policies::stitch_policy::none);
  auto full = prompt_.plan(policies::stitch_policy::full);
  if (!reuse) return tl::unexpected{reuse.error()};
  if (!full) return tl::unexpected{full.error()};
  reuse_ = std::move(*reuse);
  full_ = std::move(*full);
  for (std::size_t i = 0; i < pools.size(); ++i) {
    auto& pool = pools[i];
    if (auto filled = pool.fill(block_shape_of(model_.cache_shape()), tokens_ / block_tokens); !filled)
      return filled;
    if (!folder.empty()) {
      const auto own = folder / pool.transport();
      std::filesystem::create_directories(own);
      if (auto stored = pool.store(own); !stored) return stored;
    }
    for (const bool from_file : {false, true})
      for (const bool by_layers : {false, true})
        if (!from_file || !folder.empty())
          ways_.push_back(
              {.transport = pool.transport(), .by_layers = by_layers, .from_file = from_file, .pool = i});
    if (auto warm = out_of(pool); !warm) return tl::unexpected{warm.error()};
  }
  return {};
}

std::vector<engine::document_blocks> ttft_run::by_document(std::span<const block::view> blocks) const {
  constexpr std::size_t per_document = one_document_tokens / block_tokens;
  std::vector<engine::document_blocks> documents;
  for (std::size_t i = 0; i < blocks.size(); i += per_document)
    documents.push_back(blocks.subspan(i, per_document));
  return documents;
}

result<parts> ttft_run::recompute() {
  result<void> done;
  parts times;
  times.compute = times.total = seconds_of([&] {
    engine::kv_cache cache(model_.cache_shape(), full_.prompt_tokens + 1);
    const auto computed = engine::prefill(model_, cache, full_, logits_);
    if (!computed) done = tl::unexpected{computed.error()};
    (void)engine::greedy_token(logits_);
  });
  if (!done) return tl::unexpected{done.error()};
  return times;
}

result<parts> ttft_run::out_of(remote_blocks& pool) {
  parts times;
  result<void> done;
  result<std::vector<block::view>> blocks;
  times.load = seconds_of([&] { blocks = pool.fetch(); });
  if (!blocks) return tl::unexpected{blocks.error()};
  std::optional<engine::kv_cache> cache;
  times.rotate = seconds_of([&] {
    cache.emplace(model_.cache_shape(), reuse_.prompt_tokens + 1);
    done = engine::load_documents(model_, *cache, reuse_, by_document(*blocks),
                                  engine::loaded_rows::where_computed);
  });
  if (!done) return tl::unexpected{done.error()};
  times.compute = seconds_of([&] {
    const auto computed = engine::prefill(model_, *cache, reuse_, logits_);
    if (!computed) done = tl::unexpected{computed.error()};
    (void)engine::greedy_token(logits_);
  });
  if (!done) return tl::unexpected{done.error()};
  times.total = times.load + times.rotate + times.compute;
  return times;
}

result<void> ttft_run::compute_by_layers(remote_blocks::layers& layers, const engine::layer_arrival& wait) {
  engine::kv_cache cache(model_.cache_shape(), reuse_.prompt_tokens + 1);
  const auto documents = by_document(layers.blocks());
  auto done = engine::prefill_while_loading(model_, cache, reuse_, documents, wait, logits_,
                                            engine::loaded_rows::where_computed);
  (void)engine::greedy_token(logits_);
  return done;
}

// And then computing alone, with all layers there.
result<void> ttft_run::transfer_alone(remote_blocks& pool, parts& times) {
  result<std::unique_ptr<remote_blocks::layers>> layers;
  result<void> done;
  times.load = seconds_of([&] {
    layers = pool.begin_layers();
    if (layers) done = (*layers)->proven();
  });
  if (!layers) return tl::unexpected{layers.error()};
  if (!done) return done;
  times.compute =
      seconds_of([&] { done = compute_by_layers(**layers, [](std::uint32_t) { return result<void>{}; }); });
  return done;
}

// Computing stands still for headers, layers that are not there yet and the last layer's proof.
result<void> ttft_run::side_by_side(remote_blocks& pool, parts& times) {
  result<void> done;
  const auto standing_still = [&times](auto&& task) { times.waited += seconds_of([&] { task(); }); };
  times.total = seconds_of([&] {
    result<std::unique_ptr<remote_blocks::layers>> layers;
    standing_still([&] { layers = pool.begin_layers(); });
    if (!layers) {
      done = tl::unexpected{layers.error()};
      return;
    }
    done = compute_by_layers(**layers, [&](std::uint32_t layer) {
      result<void> here;
      standing_still([&] { here = (*layers)->wait(layer); });
      return here;
    });
    if (done) standing_still([&] { done = (*layers)->proven(); });
  });
  return done;
}

result<parts> ttft_run::layer_by_layer(remote_blocks& pool) {
  parts times;
  if (auto done = transfer_alone(pool, times); !done) return tl::unexpected{done.error()};
  if (auto done = side_by_side(pool, times); !done) return tl::unexpected{done.error()};
  return times;
}

result<void> ttft_run::measure(way& one, std::vector<remote_blocks>& pools) {
  auto& pool = pools[one.pool];
  pool.read_from_file(one.from_file);
  const auto measured = one.by_layers ? layer_by_layer(pool) : out_of(pool);
  if (!measured) return tl::unexpected{measured.error()};
  one.times.push_back(*measured);
  return {};
}

result<void> ttft_run::measure_ways(std::vector<remote_blocks>& pools, unsigned times) {
  for (unsigned i = 0; i < times; ++i)
    for (way& one : ways_)
      if (auto measured = measure(one, pools); !measured) return measured;
  return {};
}

result<void> ttft_run::round(std::vector<remote_blocks>& pools) {
  const std::size_t before = ways_.empty() ? 0 : ways_.front().times.size();
  if (auto measured = measure_ways(pools, repetitions); !measured) return measured;
  const auto recomputed = recompute();
  if (!recomputed) return tl::unexpected{recomputed.error()};
  recomputed_.push_back(recomputed->total);
  if (auto measured = measure_ways(pools, repetitions); !measured) return measured;
  for (way& one : ways_) {
    std::vector<double> totals;
    for (std::size_t i = before; i < one.times.size(); ++i)
      totals.push_back(one.times[i].total);
    one.ratios.push_back(recomputed->total / median(totals));
  }
  return {};
}

double median_ms(const std::vector<parts>& times, double parts::*part) {
  std::vector<double> values;
  values.reserve(times.size());
  for (const auto& one : times)
    values.push_back(one.*part * 1e3);
  return median(values);
}

// What side by side takes less than transfer and computing alone, of the shorter of them: the median over
// runs that followed each other.
double hidden_share(const std::vector<parts>& times) {
  std::vector<double> saved;
  saved.reserve(times.size());
  for (const parts& one : times)
    saved.push_back((one.load + one.compute - one.total) * 1e3);
  return median(saved) / std::min(median_ms(times, &parts::load), median_ms(times, &parts::compute));
}

report_row ttft_run::row_of(const way& measured) const {
  const std::string what =
      std::string(measured.from_file ? ", from file" : "") + (measured.by_layers ? ", layer by layer" : "");
  report_row row{.name = name_ + ", " + std::to_string(tokens_) + " tokens out of the pool by " +
                         measured.transport + what,
                 .operation = measured.by_layers ? "first_token_layered" : "first_token",
                 .limit_name = measured.ratios.empty() ? "" : "recomputing"};
  if (!measured.ratios.empty()) row.ratio = median(measured.ratios);
  row.transport = measured.transport;
  row.source = measured.from_file ? "file" : "memory";
  row.verified = true;
  row.tokens = tokens_;
  row.first_token_ms = median_ms(measured.times, &parts::total);
  row.load_ms = median_ms(measured.times, &parts::load);
  row.compute_ms = median_ms(measured.times, &parts::compute);
  if (measured.by_layers) {
    row.hidden = hidden_share(measured.times);
    row.waited_ms = median_ms(measured.times, &parts::waited);
  } else {
    row.rotate_ms = median_ms(measured.times, &parts::rotate);
  }
  return row;
}

std::vector<report_row> ttft_run::rows() const {
  report_row recomputing{.name = name_ + ", " + std::to_string(tokens_) + " tokens recomputed",
                         .operation = "recompute"};
  recomputing.transport = "local";
  recomputing.tokens = tokens_;
  std::vector<report_row> all;
  if (!recomputed_.empty()) {
    recomputing.first_token_ms = recomputing.compute_ms = median(recomputed_) * 1e3;
    all.push_back(recomputing);
  }
  for (const way& measured : ways_)
    all.push_back(row_of(measured));
  return all;
}

result<void> measure_model(const std::string& name, engine::runner model, const ttft_options& options,
                           std::vector<remote_blocks>& pools, const std::filesystem::path& folder,
                           report& out) {
  out.machine.threads = model.threads().threads();
  out.machine.native_bf16 = kernels::native_bf16_products();
  for (const std::uint32_t tokens : options.document_tokens) {
    if (tokens + question_tokens >= model.config().max_context_tokens) continue;
    ttft_run run(name, model, tokens);
    if (auto ready = run.prepare(pools, folder); !ready) return ready;
    if (options.overlaps > 0)
      if (auto measured = run.measure_ways(pools, options.overlaps); !measured) return measured;
    for (unsigned round = 0; options.overlaps == 0 && round < options.rounds; ++round)
      if (auto measured = run.round(pools); !measured) return measured;
    for (auto& row : run.rows()) {
      if (options.progress) options.progress(row);
      out.rows.push_back(std::move(row));
    }
  }
  return {};
}

result<void> check_lengths(const ttft_options& options) {
  for (const std::uint32_t tokens : options.document_tokens)
    if (tokens == 0 || tokens % one_document_tokens != 0)
      return fail(errc::invalid_argument, std::to_string(tokens) + " tokens are not documents of " +
                                              std::to_string(one_document_tokens) + "; give a multiple");
  return {};
}

// Of this side and of the owner's.
result<std::size_t> needed_arena_bytes(const ttft_options& options) {
  std::size_t needed = 0;
  const auto longest = std::ranges::max(options.document_tokens);
  if (options.llama) needed = arena_bytes_for(llama_3_2_1b(), longest);
  if (options.model.empty()) return needed;
  const auto config = engine::load_model_config(options.model);
  if (!config) return tl::unexpected{config.error()};
  const auto fits = std::min(longest, config->max_context_tokens / one_document_tokens * one_document_tokens);
  return std::max(needed, arena_bytes_for(*config, fits));
}

}  // namespace

result<report> run_ttft(const ttft_options& options) {
  if (auto good = check_lengths(options); !good) return tl::unexpected{good.error()};
  const auto arena_bytes = needed_arena_bytes(options);
  if (!arena_bytes) return tl::unexpected{arena_bytes.error()};
  std::optional<separate_cpus> cpus;
  unsigned threads = options.threads;
  if (options.overlaps > 0) {
    auto parted = separate_cpus::of_this_process(options.threads);
    if (!parted) return tl::unexpected{parted.error()};
    cpus = std::move(*parted);
    threads = cpus->computing();
    cpus->take_those_of_transfers();
  }
  std::vector<block_owner> owners;
  for (const auto& transport : options.transports) {
    auto owner = block_owner::start(transport, *arena_bytes);
    if (!owner) return tl::unexpected{owner.error()};
    owners.push_back(std::move(*owner));
  }
  std::vector<remote_blocks> pools;
  for (auto& owner : owners) {
    auto pool = remote_blocks::connect(owner, *arena_bytes);
    if (!pool) return tl::unexpected{pool.error()};
    pools.push_back(std::move(*pool));
  }
  std::optional<scratch_folder> scratch;
  if (!options.folder.empty()) {
    std::error_code failure;
    if (!std::filesystem::is_directory(options.folder, failure))
      return fail(errc::invalid_argument, options.folder.string() + " is no folder; name one that is there");
    scratch.emplace(options.folder, "weft-ttft-");
  }
  const std::filesystem::path folder = scratch ? scratch->path() : std::filesystem::path{};
  report out;
  out.machine.cpu = cpu_name();
  if (cpus) cpus->take_those_of_computing();
  const engine::runner_options how{.threads = threads};
  if (!options.model.empty()) {
    auto model = engine::runner::load(options.model, how);
    if (!model) return tl::unexpected{model.error()};
    const auto name = options.model.filename().string();
    if (auto done = measure_model(name, std::move(*model), options, pools, folder, out); !done)
      return tl::unexpected{done.error()};
  }
  if (options.llama) {
    auto model = engine::runner::with_random_weights(llama_3_2_1b(), how, 1);
    if (!model) return tl::unexpected{model.error()};
    if (auto done = measure_model("Llama-3.2-1B", std::move(*model), options, pools, folder, out); !done)
      return tl::unexpected{done.error()};
  }
  return out;
}

}  // namespace weft::bench
