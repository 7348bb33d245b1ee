#include <weft/engine/adaptive/session.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/launcher/study/adaptive_evaluation.hpp>
#include <weft/launcher/study/answering.hpp>
#include <weft/launcher/study/score.hpp>

#include "by_task.hpp"
#include "context_documents.hpp"
#include "elapsed.hpp"
#include "kvzap_policies.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <utility>

namespace weft::launcher::study {

namespace {

namespace adaptive = policies::adaptive;
using adaptive::method;
using clock = std::chrono::steady_clock;
using engine::token_id;

struct adaptive_tally {
  std::vector<double> scores, attention, resident_bytes, summary_bytes, full_bytes, state_bytes, moved_bytes,
      promoted_rows, promotions, on_time, lost_pages, step_ms, ttft_ms;
};

// Keeps everything, and adds up the attention that every token receives.
class attention_recorder final : public adaptive::cache_policy {
 public:
  attention_recorder(const adaptive::session_shape& shape, std::vector<std::vector<float>>& received)
      : shape_(shape), received_(received), tokens_(shape.heads()) {
    received_.assign(shape.heads(), {});
  }

  adaptive::policy_needs needs() const override { return {.weights = true}; }
  void new_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows,
                const adaptive::row_values&) override {
    for (std::uint32_t token = first_token; token < first_token + rows; ++token)
      tokens_[head].push_back(token);
    received_[head].resize(tokens_[head].size(), 0.0F);
  }
  void observe(std::uint32_t layer, std::span<const adaptive::head_weights> seen) override {
    for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
      auto& received = received_[layer * shape_.kv_heads + h];
      for (std::size_t i = 0; i < seen[h].weights.size(); ++i)
        received[i % received.size()] += seen[h].weights[i];
    }
  }
  std::span<const adaptive::removed_row> decide() override { return {}; }
  std::span<const std::uint32_t> resident(std::uint32_t head) const override { return tokens_[head]; }
  std::size_t state_bytes() const override { return 0; }

 private:
  adaptive::session_shape shape_;
  std::vector<std::vector<float>>& received_;  // [head][token]
  std::vector<std::vector<std::uint32_t>> tokens_;
};

std::uint32_t rows_of(const adaptive_run& run, std::uint32_t context_tokens) {
  return std::max(1U, static_cast<std::uint32_t>(std::lround(run.ratio * context_tokens)));
}

result<std::unique_ptr<adaptive::cache_policy>> policy_of(const adaptive::session_shape& shape,
                                                          const adaptive_run& run, std::uint32_t rows,
                                                          std::span<const float> future,
                                                          const engine::relevance_predictors& predictors) {
  if (run.method != method::atskv)
    return adaptive::make_baseline(
        shape, {.chosen = run.method, .rows = rows, .scope = run.scope, .future = future});
  const auto predictor = predictors.find(run.features);
  if (predictor == predictors.end())
    return fail(errc::not_found, "there is no relevance predictor `" +
                                     std::string{adaptive::name_of(run.features)} +
                                     "`; train one with `weft eval --suite adaptive --train`");
  auto made = adaptive::make_atskv(shape,
                                   {.rows = rows,
                                    .scope = run.scope,
                                    .passive = run.passive,
                                    .sketch_bits = run.sketch_bits,
                                    .recall_share = run.recall_share,
                                    .recall_room = run.recall_room,
                                    .turn_part = run.turn_part,
                                    .ahead_part = run.ahead_part},
                                   predictor->second);
  if (!made) return tl::unexpected(made.error());
  return std::unique_ptr<adaptive::cache_policy>(std::move(*made));
}

// One context, computed once, and its questions.
class adaptive_reader {
 public:
  adaptive_reader(loaded_model& model, const engine::relevance_predictors& predictors,
                  const store_factory& make_store)
      : model_(model),
        predictors_(predictors),
        make_store_(make_store),
        kvzap_(model.runner),
        shape_(engine::session_shape_of(model.runner.config())),
        kinds_(token_kinds_of(model)),
        logits_(model.runner.config().vocab_size) {}

  result<void> open(const set_context& context);
  result<double> ask(const set_context& context, const set_question& question, const adaptive_run& run,
                     adaptive_tally& counted);

 private:
  struct answered {
    std::vector<token_id> answer;
    std::vector<double> step_ms;
    double question_ms = 0;
    double resident_bytes = 0;
    double state_bytes = 0;
  };

  result<answered> answer(engine::adaptive_session& session, const engine::row_page_pool& pool,
                          std::span<const token_id> question, std::uint32_t most_tokens);
  result<std::span<const float>> future_of(const set_question& question, std::uint32_t most_tokens);
  std::uint8_t kind_of(token_id token) const { return kinds_[static_cast<std::size_t>(token)]; }

  loaded_model& model_;
  const engine::relevance_predictors& predictors_;
  const store_factory& make_store_;
  kvzap_policies kvzap_;
  adaptive::session_shape shape_;
  std::vector<std::uint8_t> kinds_;
  std::vector<std::uint8_t> context_kinds_;
  std::uint32_t tokens_ = 0;
  std::optional<engine::kv_cache> whole_;
  std::unique_ptr<engine::prompt_record> record_;
  double prefill_ms_ = 0;
  std::vector<float> logits_;
  std::string future_question_;
  std::vector<float> future_;  // [head][token]
};

result<void> adaptive_reader::open(const set_context& context) {
  const auto opened = open_documents(model_, context, false);
  if (!opened) return tl::unexpected(opened.error());
  std::vector<token_id> prompt = opened->opening;
  for (const auto& document : opened->documents)
    prompt.insert(prompt.end(), document.begin(), document.end());
  if (auto fits = check_length(model_, prompt.size(), 0); !fits) return fits;
  tokens_ = static_cast<std::uint32_t>(prompt.size());
  future_question_.clear();
  context_kinds_.clear();
  engine::row_batch batch;
  for (const token_id token : prompt) {
    batch.add(token, static_cast<std::int32_t>(batch.size()), 0);
    context_kinds_.push_back(kind_of(token));
  }
  // Rows behind the prompt are the keys that attention is measured against.
  whole_.emplace(model_.runner.cache_shape(), model_.runner.config().max_context_tokens);
  record_ = std::make_unique<engine::prompt_record>(
      model_.runner, tokens_, *whole_, engine::prompt_record::options{.all_sums = true, .hidden = true});
  engine::kv_cache* const caches[] = {&*whole_};
  const auto started = clock::now();
  auto done = model_.runner.forward(batch, caches, {}, record_.get());
  prefill_ms_ = milliseconds_since(started);
  return done;
}

result<adaptive_reader::answered> adaptive_reader::answer(engine::adaptive_session& session,
                                                          const engine::row_page_pool& pool,
                                                          std::span<const token_id> question,
                                                          std::uint32_t most_tokens) {
  answered found;
  const auto step = [&](token_id token, bool wanted) -> result<void> {
    const auto started = clock::now();
    auto done = session.step(token, kind_of(token), wanted ? std::span(logits_) : std::span<float>());
    found.step_ms.push_back(milliseconds_since(started));
    found.resident_bytes =
        std::max(found.resident_bytes, static_cast<double>(pool.used_bytes() + session.summary_bytes()));
    return done;
  };
  const auto started = clock::now();
  for (std::size_t i = 0; i < question.size(); ++i)
    if (auto done = step(question[i], i + 1 == question.size()); !done) return tl::unexpected(done.error());
  found.question_ms = milliseconds_since(started);
  while (true) {
    const token_id next = engine::greedy_token(logits_);
    if (model_.format.is_end(next)) break;
    found.answer.push_back(next);
    if (found.answer.size() >= most_tokens) break;
    if (auto done = step(next, true); !done) return tl::unexpected(done.error());
  }
  found.state_bytes = static_cast<double>(session.state_bytes());
  return found;
}

// The attention that a session which keeps everything pays while it answers.
result<std::span<const float>> adaptive_reader::future_of(const set_question& question,
                                                          std::uint32_t most_tokens) {
  if (future_question_ == question.text) return std::span<const float>(future_);
  std::vector<std::vector<float>> received;
  engine::row_page_pool pool(model_.runner.cache_shape());
  engine::adaptive_session session(model_.runner, pool,
                                   std::make_unique<attention_recorder>(shape_, received), nullptr);
  if (auto started = session.start(*whole_, *record_, context_kinds_); !started)
    return tl::unexpected(started.error());
  const auto asked = model_.format.question(model_.tokens, question.text);
  const auto found = answer(session, pool, asked, most_tokens);
  if (!found) return tl::unexpected(found.error());
  future_.clear();
  for (const auto& of_head : received)
    future_.insert(future_.end(), of_head.begin(), of_head.end());
  future_question_ = question.text;
  return std::span<const float>(future_);
}

result<double> adaptive_reader::ask(const set_context& context, const set_question& question,
                                    const adaptive_run& run, adaptive_tally& counted) {
  const std::uint32_t most_tokens = answer_tokens(model_, context, question);
  const auto asked = model_.format.question(model_.tokens, question.text);
  if (auto fits = check_length(model_, tokens_ + asked.size(), most_tokens); !fits)
    return tl::unexpected(fits.error());
  std::span<const float> future;
  if (run.method == method::oracle) {
    const auto known = future_of(question, most_tokens);
    if (!known) return tl::unexpected(known.error());
    future = *known;
  }
  const std::uint32_t rows = rows_of(run, tokens_);
  auto policy = run.kvzap ? kvzap_.policy(*run.kvzap, rows, *record_)
                          : policy_of(shape_, run, rows, future, predictors_);
  if (!policy) return tl::unexpected(policy.error());
  engine::row_page_pool pool(model_.runner.cache_shape(), run.page_rows);
  const auto store = make_store_ ? make_store_() : std::make_unique<engine::local_passive_store>();
  engine::adaptive_session session(model_.runner, pool, std::move(*policy), store.get());
  const auto started = clock::now();
  if (auto done = session.start(*whole_, *record_, context_kinds_); !done)
    return tl::unexpected(done.error());
  const double start_ms = milliseconds_since(started);
  session.measure_attention(*whole_);
  const auto found = answer(session, pool, asked, most_tokens);
  if (!found) return tl::unexpected(found.error());

  const auto& counters = session.counters();
  const double row_bytes =
      2.0 * shape_.head_dim * static_cast<double>(kernels::size_bytes(model_.runner.cache_shape().dtype));
  counted.scores.push_back(score_of(context, question, model_.format.answer(model_.tokens, found->answer)));
  counted.attention.push_back(session.recalled_attention());
  counted.resident_bytes.push_back(found->resident_bytes);
  counted.summary_bytes.push_back(static_cast<double>(session.summary_bytes()));
  counted.full_bytes.push_back(static_cast<double>(session.tokens()) * static_cast<double>(shape_.heads()) *
                               row_bytes);
  counted.state_bytes.push_back(found->state_bytes);
  counted.moved_bytes.push_back(static_cast<double>(counters.bytes_moved));
  counted.promoted_rows.push_back(static_cast<double>(counters.promoted_rows));
  counted.promotions.push_back(static_cast<double>(counters.pages_promoted));
  if (counters.pages_promoted > 0)
    counted.on_time.push_back(static_cast<double>(counters.pages_on_time) /
                              static_cast<double>(counters.pages_promoted));
  counted.lost_pages.push_back(static_cast<double>(counters.pages_lost));
  counted.step_ms.push_back(median(found->step_ms));
  counted.ttft_ms.push_back(prefill_ms_ + start_ms + found->question_ms);
  return counted.scores.back();
}

adaptive_cell cell_of(const adaptive_run& run, const std::string& task, const adaptive_tally& counted) {
  adaptive_cell cell{.run = run, .answers = scored_cell(task, counted.scores)};
  cell.attention = mean(counted.attention);
  cell.resident_bytes = mean(counted.resident_bytes);
  cell.summary_bytes = mean(counted.summary_bytes);
  cell.full_bytes = mean(counted.full_bytes);
  cell.state_bytes = mean(counted.state_bytes);
  cell.moved_bytes = mean(counted.moved_bytes);
  cell.promoted_rows = mean(counted.promoted_rows);
  cell.promotions = mean(counted.promotions);
  if (!counted.on_time.empty()) cell.on_time = mean(counted.on_time);
  cell.lost_pages = mean(counted.lost_pages);
  cell.step_ms = median(counted.step_ms);
  cell.ttft_ms = median(counted.ttft_ms);
  cell.tokens_per_s = cell.step_ms > 0 ? 1000 / cell.step_ms : 0;
  return cell;
}

}  // namespace

std::vector<std::uint8_t> token_kinds_of(const loaded_model& model) {
  enum : std::uint8_t { special, digits, word_begin, word_rest, other };
  std::vector<std::uint8_t> kinds;
  for (std::uint32_t id = 0; id < model.runner.config().vocab_size; ++id) {
    const token_id ids[] = {static_cast<token_id>(id)};
    const std::string text = model.tokens.decode(ids, true);
    const bool spaced = !text.empty() && text.front() == ' ';
    const auto first =
        static_cast<unsigned char>(text.size() > (spaced ? 1U : 0U) ? text[spaced ? 1 : 0] : 0);
    kinds.push_back(text.empty()               ? special
                    : std::isdigit(first) != 0 ? digits
                    : std::isalpha(first) == 0 ? other
                    : spaced                   ? word_begin
                                               : word_rest);
  }
  return kinds;
}

result<std::vector<adaptive_cell>> evaluate_adaptive(loaded_model& model,
                                                     std::span<const set_context> contexts,
                                                     std::span<const adaptive_run> runs,
                                                     const engine::relevance_predictors& predictors,
                                                     const evaluation_progress& progress,
                                                     const store_factory& make_store) {
  adaptive_reader reading(model, predictors, make_store);
  std::vector<by_task<adaptive_tally>> counted(runs.size());
  std::size_t done = 0;
  for (const auto& context : contexts) {
    const auto named = [&](const error& e) {
      return tl::unexpected(error{e.code, context.id + ": " + e.context});
    };
    if (auto opened = reading.open(context); !opened) return named(opened.error());
    for (const auto& question : context.questions)
      for (std::size_t i = 0; i < runs.size(); ++i)
        if (auto score = reading.ask(context, question, runs[i], counted[i].of(context.task)); !score)
          return named(score.error());
    progress(++done);
  }
  std::vector<adaptive_cell> cells;
  for (std::size_t i = 0; i < runs.size(); ++i)
    for (const auto& [task, tallied] : counted[i])
      cells.push_back(cell_of(runs[i], task, tallied));
  return cells;
}

result<std::vector<memory_point>> generate_long(loaded_model& model, const adaptive_run& run,
                                                std::uint32_t prompt_tokens, std::uint32_t generated_tokens,
                                                std::uint32_t rows, std::uint32_t points,
                                                const engine::relevance_predictors& predictors) {
  const auto kinds = token_kinds_of(model);
  const auto vocab = static_cast<std::uint32_t>(kinds.size());
  const auto shape = engine::session_shape_of(model.runner.config());
  engine::kv_cache whole(model.runner.cache_shape(), prompt_tokens);
  engine::prompt_record record(model.runner, prompt_tokens, whole, {.all_sums = true, .hidden = true});
  engine::row_batch batch;
  std::vector<std::uint8_t> prompt_kinds;
  std::uint32_t noise = 1;
  for (std::uint32_t i = 0; i < prompt_tokens; ++i) {
    noise = noise * 1664525U + 1013904223U;
    batch.add(static_cast<token_id>((noise >> 8U) % vocab), static_cast<std::int32_t>(i), 0);
    prompt_kinds.push_back(kinds[static_cast<std::size_t>(batch.tokens.back())]);
  }
  batch.logits_rows = {prompt_tokens - 1};
  std::vector<float> logits(vocab);
  engine::kv_cache* const caches[] = {&whole};
  if (auto done = model.runner.forward(batch, caches, logits, &record); !done)
    return tl::unexpected(done.error());
  auto policy = policy_of(shape, run, rows, {}, predictors);
  if (!policy) return tl::unexpected(policy.error());
  engine::row_page_pool pool(model.runner.cache_shape());
  engine::local_passive_store store;
  engine::adaptive_session session(model.runner, pool, std::move(*policy), &store);
  if (auto done = session.start(whole, record, prompt_kinds); !done) return tl::unexpected(done.error());

  std::vector<memory_point> found;
  std::vector<double> step_ms;
  for (std::uint32_t i = 0; i < generated_tokens; ++i) {
    const token_id next = engine::greedy_token(logits);
    const auto started = clock::now();
    if (auto done = session.step(next, kinds[static_cast<std::size_t>(next)], logits); !done)
      return tl::unexpected(done.error());
    step_ms.push_back(milliseconds_since(started));
    if ((i + 1) * std::uint64_t{points} / generated_tokens == i * std::uint64_t{points} / generated_tokens)
      continue;
    found.push_back({run.name, session.tokens(),
                     static_cast<double>(pool.used_bytes() + session.summary_bytes()),
                     static_cast<double>(session.state_bytes()), median(step_ms)});
    step_ms.clear();
  }
  return found;
}

}  // namespace weft::launcher::study
