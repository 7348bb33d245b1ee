#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/repeat_plan.hpp>
#include <weft/engine/sampler.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/launcher/study/answering.hpp>
#include <weft/launcher/study/score.hpp>
#include <weft/launcher/study/sparse_evaluation.hpp>

#include "by_task.hpp"
#include "context_documents.hpp"
#include "context_scores.hpp"
#include "elapsed.hpp"

#include <algorithm>
#include <chrono>
#include <list>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using clock = std::chrono::steady_clock;
namespace retrieval = policies::retrieval;

struct sparse_tally {
  std::vector<double> scores, kept_ratio, resident_bytes, moved_bytes, late_loads, step_ms, ttft_ms;
};

// One context: its documents at their places in a cache, and what their blocks are ranked by.
class sparse_reader {
 public:
  sparse_reader(loaded_model& model, const retrieval::options& options) : model_(model), options_(options) {}

  // Then answers are read from all rows.
  result<void> open(const set_context& context);
  // From now on they are read from these. Blocks are ranked by all of them.
  result<void> keep(const policies::kept_rows& kept);
  result<std::string> ask(const std::string& question, std::uint32_t most_tokens, sparse_tally& counted);

 private:
  result<void> place_documents();
  result<void> place_opening();
  void rank_documents(std::span<const std::uint32_t> slot_rows);
  std::vector<std::uint32_t> slot_rows(const policies::kept_rows& kept) const;
  engine::kv_cache& prompt() { return kept_ ? *kept_ : *whole_; }
  result<policies::stitch_plan> plan(std::span<const token_id> question) const;
  result<std::vector<token_id>> decode(std::int32_t position, std::uint32_t most_tokens,
                                       const engine::recent_queries& recent, sparse_tally& counted);
  result<void> step(engine::kv_cache& resident, token_id token, std::int32_t position);

  loaded_model& model_;
  retrieval::options options_;
  context_documents context_;
  std::vector<retrieval::context_document> placed_;
  std::optional<engine::kv_cache> whole_, kept_;
  std::unique_ptr<engine::sparse_context> sparse_;
  std::vector<float> logits_;
};

result<void> sparse_reader::open(const set_context& context) {
  logits_.resize(model_.runner.config().vocab_size);
  placed_.clear();
  auto opened = open_documents(model_, context, true);
  if (!opened) return tl::unexpected(opened.error());
  context_ = std::move(*opened);
  if (auto fits = check_length(model_, context_.opening.size() + context_.tokens(), 1); !fits) return fits;
  auto position = static_cast<std::int32_t>(context_.opening.size());
  for (const auto& encoded : context_.encoded) {
    placed_.push_back({position, encoded.tokens()});
    position += static_cast<std::int32_t>(encoded.tokens());
  }
  kept_.reset();
  rank_documents({});
  return place_documents();
}

void sparse_reader::rank_documents(std::span<const std::uint32_t> slot_rows) {
  sparse_ = std::make_unique<engine::sparse_context>(model_.runner, options_, placed_, slot_rows);
  for (std::uint32_t i = 0; i < context_.encoded.size(); ++i)
    sparse_->add_document(i, context_.encoded[i]);
}

// The most kept rows of a middle block, [layer][kv_head].
std::vector<std::uint32_t> sparse_reader::slot_rows(const policies::kept_rows& kept) const {
  const auto plan = retrieval::plan_blocks(placed_, options_);
  std::vector<std::uint32_t> most(kept.shape.heads(), 0);
  for (std::size_t head = 0; head < most.size(); ++head)
    for (const auto& block : plan.middle_blocks()) {
      const auto rows =
          kept.head(head).subspan(static_cast<std::size_t>(block.start_position), options_.block_tokens);
      most[head] = std::max(most[head], std::accumulate(rows.begin(), rows.end(), 0U));
    }
  return most;
}

result<void> sparse_reader::keep(const policies::kept_rows& kept) {
  if (auto placed = place_opening(); !placed) return placed;
  const std::uint32_t later = model_.runner.config().max_context_tokens - kept.shape.tokens;
  auto copied = engine::copy_kept_rows(*whole_, kept, later);
  if (!copied) return tl::unexpected(copied.error());
  kept_.emplace(std::move(*copied));
  rank_documents(slot_rows(kept));
  return {};
}

// Which every question computes again, over these.
result<void> sparse_reader::place_opening() {
  engine::row_batch rows;
  for (const token_id token : context_.opening)
    rows.add(token, static_cast<std::int32_t>(rows.size()), 0);
  if (rows.size() == 0) return {};
  engine::kv_cache* const caches[] = {&*whole_};
  return model_.runner.forward(rows, caches, {});
}

result<void> sparse_reader::place_documents() {
  whole_.emplace(model_.runner.cache_shape(), model_.runner.config().max_context_tokens);
  for (std::size_t i = 0; i < context_.encoded.size(); ++i) {
    auto done = engine::scatter_document(model_.runner, *whole_, context_.encoded[i],
                                         placed_[i].start_position, static_cast<std::int32_t>(i + 1));
    if (!done) return done;
  }
  return {};
}

result<policies::stitch_plan> sparse_reader::plan(std::span<const token_id> question) const {
  const auto parts = context_.parts();
  return policies::plan_stitch(policies::stitch_policy::none, {context_.opening, parts, question});
}

result<std::string> sparse_reader::ask(const std::string& question, std::uint32_t most_tokens,
                                       sparse_tally& counted) {
  const auto asked = model_.format.question(model_.tokens, question);
  const auto planned = plan(asked);
  if (!planned) return tl::unexpected(planned.error());
  if (auto fits = check_length(model_, planned->prompt_tokens, most_tokens); !fits)
    return tl::unexpected(fits.error());
  const auto started = clock::now();
  prompt().truncate(static_cast<std::int32_t>(planned->prompt_tokens - planned->question_rows));
  engine::row_batch rows;
  for (const auto& row : planned->rows)
    rows.add(row.token, row.position, row.segment);
  rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  engine::recent_queries recent(model_.runner.config(), options_.stride);
  engine::kv_cache* const caches[] = {&prompt()};
  if (auto done = model_.runner.forward(rows, caches, logits_, &recent); !done)
    return tl::unexpected(done.error());
  counted.ttft_ms.push_back(milliseconds_since(started));
  const auto answer = decode(static_cast<std::int32_t>(planned->prompt_tokens), most_tokens, recent, counted);
  if (!answer) return tl::unexpected(answer.error());
  return model_.format.answer(model_.tokens, *answer);
}

result<std::vector<token_id>> sparse_reader::decode(std::int32_t position, std::uint32_t most_tokens,
                                                    const engine::recent_queries& recent,
                                                    sparse_tally& counted) {
  engine::cached_blocks source(prompt(), sparse_->plan().middle_blocks(), options_.block_tokens);
  auto resident = sparse_->start(prompt(), most_tokens, recent, source);
  if (!resident) return tl::unexpected(resident.error());
  std::vector<token_id> answer;
  while (true) {
    const token_id next = engine::greedy_token(logits_);
    if (model_.format.is_end(next)) break;
    answer.push_back(next);
    if (answer.size() >= most_tokens) break;
    const auto started = clock::now();
    if (auto done = step(*resident, next, position++); !done) return tl::unexpected(done.error());
    counted.step_ms.push_back(milliseconds_since(started));
  }
  counted.resident_bytes.push_back(static_cast<double>(resident->allocated_bytes()) +
                                   static_cast<double>(sparse_->allocated_bytes()));
  counted.moved_bytes.push_back(static_cast<double>(sparse_->counters().bytes_moved));
  counted.late_loads.push_back(static_cast<double>(sparse_->counters().late_loads));
  return answer;
}

result<void> sparse_reader::step(engine::kv_cache& resident, token_id token, std::int32_t position) {
  engine::row_batch row;
  row.add(token, position, 0);
  row.logits_rows = {0};
  engine::kv_cache* const caches[] = {&resident};
  if (auto begun = sparse_->begin_step(); !begun) return begun;
  if (auto done = model_.runner.forward(row, caches, logits_, sparse_.get()); !done) return done;
  return sparse_->end_step();
}

result<void> ask_all(sparse_reader& reading, const loaded_model& model, const set_context& context,
                     sparse_tally& counted) {
  for (const auto& question : context.questions) {
    const auto answer = reading.ask(question.text, answer_tokens(model, context, question), counted);
    if (!answer) return tl::unexpected(answer.error());
    counted.scores.push_back(score_of(context, question, *answer));
  }
  return {};
}

// One choice of rows: answers over all contexts.
struct rows_read {
  std::string importance = "none";
  std::string budget = "none";
  double ratio = 1;
  by_task<sparse_tally> counted;
};

// One way of retrieval over all contexts and, where there are some, all choices of rows.
class sparse_evaluation {
 public:
  sparse_evaluation(loaded_model& model, const retrieval::options& options, const compression& rows)
      : model_(model), options_(options), rows_(rows), reading_(model, options), scorer_(model.runner) {
    if (rows_.importance.empty()) reads_.emplace_back();
    for (const auto policy : rows_.importance)
      for (const auto kind : rows_.budgets)
        for (const double ratio : rows_.ratios)
          reads_.push_back(
              {std::string{policies::name_of(policy)}, std::string{policies::name_of(kind)}, ratio, {}});
  }

  result<void> prepare() {
    if (rows_.importance.empty()) return {};
    auto plan = engine::repeat_plan_for(model_.runner.config(), model_.tokens, model_.format);
    if (!plan) return tl::unexpected(plan.error());
    repetition_ = std::move(*plan);
    if (std::ranges::find(rows_.budgets, policies::budget_kind::head) == rows_.budgets.end()) return {};
    auto heads = head_scores_of(model_);
    if (!heads) return tl::unexpected(heads.error());
    head_scores_ = std::move(*heads);
    return {};
  }

  result<void> read(const set_context& context) {
    if (auto opened = reading_.open(context); !opened) return opened;
    if (!rows_.importance.empty()) return read_kept(context);
    return ask_all(reading_, model_, context, reads_.front().counted.of(context.task));
  }

  std::vector<sparse_cell> cells() const {
    std::vector<sparse_cell> cells;
    for (const rows_read& rows : reads_)
      for (const auto& [task, counted] : rows.counted)
        cells.push_back(cell_of(task, rows, counted));
    return cells;
  }

 private:
  result<void> read_kept(const set_context& context) {
    const auto prompt = prompt_of(model_, context.documents, true);
    auto rows = reads_.begin();
    for (const auto policy : rows_.importance) {
      context_scores scores(prompt, rows_.unit, head_scores_);
      if (auto done = scores.score(model_, scorer_, *repetition_, policy, rows_.seed); !done) return done;
      for (const auto kind : rows_.budgets)
        for (const double ratio : rows_.ratios) {
          const auto kept = scores.keep(kind, ratio);
          if (!kept) return tl::unexpected(kept.error());
          if (auto done = reading_.keep(*kept); !done) return done;
          auto& counted = (rows++)->counted.of(context.task);
          counted.kept_ratio.push_back(static_cast<double>(kept->count()) /
                                       static_cast<double>(kept->shape.rows()));
          if (auto done = ask_all(reading_, model_, context, counted); !done) return done;
        }
    }
    return {};
  }

  sparse_cell cell_of(const std::string& task, const rows_read& rows, const sparse_tally& counted) const {
    sparse_cell cell{.answers = scored_cell(task, counted.scores), .retrieval = options_};
    cell.answers.importance = rows.importance;
    cell.answers.budget = rows.budget;
    cell.answers.ratio = rows.ratio;
    if (!counted.kept_ratio.empty()) cell.answers.kept_ratio = mean(counted.kept_ratio);
    cell.answers.ttft_ms = median(counted.ttft_ms);
    cell.resident_bytes = mean(counted.resident_bytes);
    cell.answers.bytes = cell.resident_bytes;
    cell.moved_bytes = mean(counted.moved_bytes);
    cell.late_loads = mean(counted.late_loads);
    cell.step_ms = median(counted.step_ms);
    return cell;
  }

  loaded_model& model_;
  const retrieval::options& options_;
  const compression& rows_;
  sparse_reader reading_;
  engine::row_scorer scorer_;
  std::optional<engine::repeat_plan> repetition_;
  std::vector<float> head_scores_;
  std::list<rows_read> reads_;
};

}  // namespace

result<std::vector<sparse_cell>> evaluate_sparse(loaded_model& model, std::span<const set_context> contexts,
                                                 const retrieval::options& options, const compression& rows,
                                                 const evaluation_progress& progress) {
  sparse_evaluation evaluation(model, options, rows);
  if (auto prepared = evaluation.prepare(); !prepared) return tl::unexpected(prepared.error());
  std::size_t done = 0;
  for (const auto& context : contexts) {
    if (auto read = evaluation.read(context); !read)
      return tl::unexpected(error{read.error().code, context.id + ": " + read.error().context});
    progress(++done);
  }
  return evaluation.cells();
}

}  // namespace weft::launcher::study
