#include <weft/engine/sampler.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/launcher/study/answering.hpp>
#include <weft/launcher/study/score.hpp>
#include <weft/launcher/study/sparse_evaluation.hpp>

#include "by_task.hpp"
#include "context_documents.hpp"
#include "elapsed.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using clock = std::chrono::steady_clock;
namespace retrieval = policies::retrieval;

struct sparse_tally {
  std::vector<double> scores, bytes, resident_bytes, moved_bytes, late_loads, step_ms, ttft_ms;
};

// One context: its documents at their places in a cache, and what their blocks are ranked by.
class sparse_reader {
 public:
  sparse_reader(loaded_model& model, const retrieval::options& options) : model_(model), options_(options) {}

  result<void> open(const set_context& context);
  result<std::string> ask(const std::string& question, std::uint32_t most_tokens, sparse_tally& counted);

 private:
  result<void> place_documents();
  result<policies::stitch_plan> plan(std::span<const token_id> question) const;
  result<std::vector<token_id>> decode(std::int32_t position, std::uint32_t most_tokens,
                                       const engine::recent_queries& recent, sparse_tally& counted);
  result<void> step(engine::kv_cache& resident, token_id token, std::int32_t position);

  loaded_model& model_;
  retrieval::options options_;
  context_documents context_;
  std::vector<retrieval::context_document> placed_;
  std::optional<engine::kv_cache> whole_;
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
  sparse_ = std::make_unique<engine::sparse_context>(model_.runner, options_, placed_);
  for (std::uint32_t i = 0; i < context_.encoded.size(); ++i)
    sparse_->add_document(i, context_.encoded[i]);
  return place_documents();
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
  whole_->truncate(static_cast<std::int32_t>(planned->prompt_tokens - planned->question_rows));
  engine::row_batch rows;
  for (const auto& row : planned->rows)
    rows.add(row.token, row.position, row.segment);
  rows.logits_rows = {static_cast<std::uint32_t>(rows.size() - 1)};
  engine::recent_queries recent(model_.runner.config(), options_.stride);
  engine::kv_cache* const caches[] = {&*whole_};
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
  engine::cached_blocks source(*whole_, sparse_->plan().middle_blocks(), options_.block_tokens);
  auto resident = sparse_->start(*whole_, most_tokens, recent, source);
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

result<void> read_context(sparse_reader& reading, const loaded_model& model, const set_context& context,
                          sparse_tally& counted) {
  const auto named = [&](const error& e) {
    return tl::unexpected(error{e.code, context.id + ": " + e.context});
  };
  if (auto opened = reading.open(context); !opened) return named(opened.error());
  for (const auto& question : context.questions) {
    const auto answer = reading.ask(question.text, answer_tokens(model, context, question), counted);
    if (!answer) return named(answer.error());
    counted.scores.push_back(score_of(context, question, *answer));
  }
  return {};
}

sparse_cell cell_of(const std::string& task, const retrieval::options& options, const sparse_tally& counted) {
  sparse_cell cell{.answers = scored_cell(task, counted.scores), .retrieval = options};
  cell.answers.ttft_ms = median(counted.ttft_ms);
  cell.resident_bytes = mean(counted.resident_bytes);
  cell.answers.bytes = cell.resident_bytes;
  cell.moved_bytes = mean(counted.moved_bytes);
  cell.late_loads = mean(counted.late_loads);
  cell.step_ms = median(counted.step_ms);
  return cell;
}

}  // namespace

result<std::vector<sparse_cell>> evaluate_sparse(loaded_model& model, std::span<const set_context> contexts,
                                                 const retrieval::options& options,
                                                 const evaluation_progress& progress) {
  sparse_reader reading(model, options);
  by_task<sparse_tally> counted;
  std::size_t done = 0;
  for (const auto& context : contexts) {
    if (auto read = read_context(reading, model, context, counted.of(context.task)); !read)
      return tl::unexpected(read.error());
    progress(++done);
  }
  std::vector<sparse_cell> cells;
  for (const auto& [task, answers] : counted)
    cells.push_back(cell_of(task, options, answers));
  return cells;
}

}  // namespace weft::launcher::study
