#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/head_scores.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/repeat_plan.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/engine/surrogates.hpp>
#include <weft/launcher/study/answering.hpp>
#include <weft/launcher/study/compressed_evaluation.hpp>

#include "context_documents.hpp"
#include "context_scores.hpp"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <map>
#include <utility>

namespace weft::launcher::study {

namespace {

using clock = std::chrono::steady_clock;
using engine::token_id;
using policies::budget_kind;
using policies::importance_policy;
using policies::kept_rows;
using policies::score_table;

// A context that goes on being pruned while answers are read from it (KVzap, arXiv 2601.07891).
struct pruned_context {
  engine::surrogate* guesser = nullptr;
  const score_table* scores = nullptr;
  float least_score = 0;
};

// The newest tokens stay in every head, whatever they score: they are in the window.
void keep_window(kept_rows& kept) {
  const auto window = std::min(engine::pruned_decoding::default_window_tokens, kept.shape.tokens);
  for (std::size_t head = 0; head < kept.shape.heads(); ++head)
    std::ranges::fill(kept.head(head).last(window), std::uint8_t{1});
}

result<engine::kv_cache> prefilled(loaded_model& model, const scored_prompt& prompt) {
  engine::kv_cache cache(model.runner.cache_shape(), prompt.size());
  engine::row_batch batch;
  for (std::uint32_t i = 0; i < prompt.size(); ++i)
    batch.add(prompt.tokens[i], static_cast<std::int32_t>(i), prompt.segments[i]);
  engine::kv_cache* const caches[] = {&cache};
  if (auto done = model.runner.forward(batch, caches, {}); !done) return tl::unexpected(done.error());
  return cache;
}

// Questions of one context, and how much room each of them and its answer need.
struct asked_question {
  std::vector<token_id> tokens;
  std::uint32_t answer_tokens = 0;
};

std::vector<asked_question> questions_of(const loaded_model& model, const set_context& context) {
  std::vector<asked_question> questions;
  for (const auto& question : context.questions)
    questions.push_back(
        {model.format.question(model.tokens, question.text), answer_tokens(model, context, question)});
  return questions;
}

result<void> check_lengths(const loaded_model& model, const scored_prompt& prompt,
                           const std::vector<asked_question>& questions) {
  for (const auto& question : questions)
    if (auto fits = check_length(model, prompt.size() + question.tokens.size(), question.answer_tokens);
        !fits)
      return fits;
  return {};
}

// One context in one compressed cache.
class compressed_reader {
 public:
  compressed_reader(loaded_model& model, engine::kv_cache& full, const scored_prompt& prompt,
                    kernels::row_codec coding)
      : model_(model),
        full_(full),
        prompt_(prompt),
        coding_(coding),
        logits_(model.runner.config().vocab_size) {}

  result<void> read(const set_context& context, const std::vector<asked_question>& questions,
                    const kept_rows& kept, tally& counted) {
    auto session = open(questions, kept, counted);
    if (!session) return tl::unexpected(session.error());
    for (std::size_t i = 0; i < questions.size(); ++i) {
      const auto started = clock::now();
      session->truncate(static_cast<std::int32_t>(prompt_.size()));
      if (auto done = prefill(*session, questions[i].tokens); !done) return done;
      if (i == 0)
        counted.ttft_ms.push_back(std::chrono::duration<double, std::milli>(clock::now() - started).count());
      const auto position = static_cast<std::int32_t>(prompt_.size() + questions[i].tokens.size());
      const auto answer = decode_answer(model_, *session, logits_, position, questions[i].answer_tokens);
      if (!answer) return tl::unexpected(answer.error());
      counted.scores.push_back(score_of(context, context.questions[i], *answer));
    }
    return {};
  }

  // Every question starts from a copy of its own: what leaves the cache while one is answered is there for
  // the next.
  result<void> read_pruning(const set_context& context, const std::vector<asked_question>& questions,
                            const kept_rows& kept, const pruned_context& pruned, tally& counted) {
    auto session = open(questions, kept, counted);
    if (!session) return tl::unexpected(session.error());
    for (std::size_t i = 0; i < questions.size(); ++i) {
      if (i > 0) session = copy(questions, kept);
      if (!session) return tl::unexpected(session.error());
      engine::pruned_decoding pruning(model_.runner, *pruned.guesser, pruned.least_score);
      pruning.start(*pruned.scores);
      const auto started = clock::now();
      if (auto done = prefill_pruning(*session, questions[i].tokens, pruning); !done) return done;
      if (i == 0)
        counted.ttft_ms.push_back(std::chrono::duration<double, std::milli>(clock::now() - started).count());
      const auto position = static_cast<std::int32_t>(prompt_.size() + questions[i].tokens.size());
      const auto answer =
          decode_answer(model_, *session, logits_, position, questions[i].answer_tokens, &pruning);
      if (!answer) return tl::unexpected(answer.error());
      counted.scores.push_back(score_of(context, context.questions[i], *answer));
    }
    return {};
  }

 private:
  result<void> prefill_pruning(engine::kv_cache& session, const std::vector<token_id>& question,
                               engine::pruned_decoding& pruning) {
    engine::row_batch batch;
    for (const token_id token : question)
      batch.add(token, static_cast<std::int32_t>(prompt_.size() + batch.size()), 0);
    batch.logits_rows = {static_cast<std::uint32_t>(batch.size() - 1)};
    engine::kv_cache* const caches[] = {&session};
    if (auto done = model_.runner.forward(batch, caches, logits_, &pruning); !done) return done;
    pruning.end_pass(session, batch.positions);
    return {};
  }

  result<engine::kv_cache> open(const std::vector<asked_question>& questions, const kept_rows& kept,
                                tally& counted) {
    const auto base = engine::copy_kept_rows(full_, kept, 0, coding_);
    if (!base) return tl::unexpected(base.error());
    counted.bytes.push_back(static_cast<double>(base->allocated_bytes()));
    counted.kept_ratio.push_back(static_cast<double>(kept.count()) / static_cast<double>(kept.shape.rows()));
    counted.recomputed_rows.push_back(0);
    return copy(questions, kept);
  }

  // With room for any of the questions and its answer.
  result<engine::kv_cache> copy(const std::vector<asked_question>& questions, const kept_rows& kept) {
    std::size_t tail = 1;
    for (const auto& question : questions)
      tail = std::max(tail, question.tokens.size() + question.answer_tokens);
    return engine::copy_kept_rows(full_, kept, static_cast<std::uint32_t>(tail), coding_);
  }

  result<void> prefill(engine::kv_cache& session, const std::vector<token_id>& question) {
    std::vector<policies::planned_row> rows;
    rows.reserve(question.size());
    for (const token_id token : question)
      rows.push_back({token, static_cast<std::int32_t>(prompt_.size() + rows.size()), 0,
                      policies::row_origin::question});
    return engine::prefill_rows(model_.runner, session, rows, logits_);
  }

  loaded_model& model_;
  engine::kv_cache& full_;
  const scored_prompt& prompt_;
  kernels::row_codec coding_;
  std::vector<float> logits_;
};

// All combinations of one compression over all contexts.
class compressed_evaluation {
 public:
  compressed_evaluation(loaded_model& model, const compression& wanted, engine::repeat_plan plan)
      : model_(model),
        wanted_(wanted),
        plan_(std::move(plan)),
        scorer_(model.runner),
        surrogates_(model.runner) {}

  // What lies beside the model: head scores, where there are some, and surrogates that go on pruning.
  result<void> open_files() {
    if (std::ranges::find(wanted_.budgets, budget_kind::head) != wanted_.budgets.end()) {
      auto loaded = head_scores_of(model_);
      if (!loaded) return tl::unexpected(loaded.error());
      head_scores_ = std::move(*loaded);
    }
    for (const importance_policy policy : wanted_.importance) {
      if (!goes_on_pruning(policy)) continue;
      const auto guesser = surrogates_.find(*engine::surrogate_kind_of(policy));
      if (!guesser) return tl::unexpected(guesser.error());
      guessers_.emplace(policy, *guesser);
    }
    return {};
  }

  result<void> read(const set_context& context) {
    if (std::ranges::find(tasks_, context.task) == tasks_.end()) tasks_.push_back(context.task);
    const auto prompt =
        prompt_of(model_, context.documents, wanted_.stitch.kind != policies::stitch_kind::full);
    const auto questions = questions_of(model_, context);
    if (auto fits = check_lengths(model_, prompt, questions); !fits) return fits;
    auto full = prefilled(model_, prompt);
    if (!full) return tl::unexpected(full.error());
    compressed_reader reader(model_, *full, prompt, wanted_.coding);
    for (const importance_policy policy : wanted_.importance) {
      context_scores scores(prompt, wanted_.unit, head_scores_);
      if (auto done = scores.score(model_, scorer_, plan_, policy, wanted_.seed); !done) return done;
      for (const budget_kind kind : wanted_.budgets)
        for (const double ratio : wanted_.ratios) {
          auto kept = scores.keep(kind, ratio);
          if (!kept) return tl::unexpected(kept.error());
          auto& counted = tallies_[{policy, kind, ratio, context.task}];
          const bool prunes = kind == budget_kind::threshold && goes_on_pruning(policy);
          if (prunes) keep_window(*kept);
          auto done =
              prunes ? reader.read_pruning(
                           context, questions, *kept,
                           {guessers_.at(policy), &scores.of_context(), static_cast<float>(ratio)}, counted)
                     : reader.read(context, questions, *kept, counted);
          if (!done) return done;
        }
    }
    return {};
  }

  std::vector<evaluation_cell> cells() {
    std::vector<evaluation_cell> cells;
    for (const std::string& task : tasks_)
      for (const importance_policy policy : wanted_.importance)
        for (const budget_kind kind : wanted_.budgets)
          for (const double ratio : wanted_.ratios) {
            cells.push_back(cell_of(task, tallies_[{policy, kind, ratio, task}]));
            cells.back().importance = policies::name_of(policy);
            cells.back().budget = policies::name_of(kind);
            cells.back().ratio = ratio;
            cells.back().coding = wanted_.coding;
            cells.back().stitch = wanted_.stitch;
          }
    return cells;
  }

 private:
  // KVzap with a threshold prunes what is decoded too. Documents that were scored alone have no common
  // window.
  bool goes_on_pruning(importance_policy policy) const {
    return engine::surrogate_kind_of(policy) && wanted_.unit == scored_unit::context &&
           std::ranges::find(wanted_.budgets, budget_kind::threshold) != wanted_.budgets.end();
  }

  struct combination {
    importance_policy policy;
    budget_kind kind;
    double ratio;
    std::string task;
    auto operator<=>(const combination&) const = default;
  };

  loaded_model& model_;
  const compression& wanted_;
  engine::repeat_plan plan_;
  engine::row_scorer scorer_;
  std::vector<std::string> tasks_;
  std::map<combination, tally> tallies_;
  std::vector<float> head_scores_;
  engine::surrogates surrogates_;
  std::map<importance_policy, engine::surrogate*> guessers_;  // of those that go on pruning
};

}  // namespace

result<std::vector<evaluation_cell>> evaluate_compressed(loaded_model& model,
                                                         std::span<const set_context> contexts,
                                                         const compression& wanted,
                                                         const evaluation_progress& progress) {
  if (wanted.stitch.kind != policies::stitch_kind::none && wanted.stitch.kind != policies::stitch_kind::full)
    return fail(errc::unsupported, "documents are compressed with the stitch policies none and full");
  auto plan = engine::repeat_plan_for(model.runner.config(), model.tokens, model.format);
  if (!plan) return tl::unexpected(plan.error());
  compressed_evaluation evaluation(model, wanted, std::move(*plan));
  if (auto opened = evaluation.open_files(); !opened) return tl::unexpected(opened.error());
  std::size_t done = 0;
  for (const auto& context : contexts) {
    if (auto read = evaluation.read(context); !read)
      return tl::unexpected(error{read.error().code, context.id + ": " + read.error().context});
    progress(++done);
  }
  return evaluation.cells();
}

}  // namespace weft::launcher::study
