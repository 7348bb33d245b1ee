#include <weft/engine/document.hpp>
#include <weft/engine/link_tokens.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/launcher/study/answering.hpp>

#include "by_task.hpp"
#include "context_documents.hpp"
#include "elapsed.hpp"

#include <chrono>
#include <optional>
#include <utility>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using clock = std::chrono::steady_clock;

// One context and how its documents come into the cache.
class reader {
 public:
  reader(loaded_model& model, policies::stitch_policy stitch, const reading_options& options)
      : model_(model), stitch_(stitch), options_(options) {}

  // Tokens of the documents and, where the policy reuses them, their K and V.
  result<void> open(const set_context& context);

  // Answers one question; the first one puts the prompt together, the others go on behind the documents.
  result<std::string> ask(const std::string& question, std::uint32_t most_tokens);

  double rotate_ms() const { return rotate_ms_; }
  double compute_ms() const { return compute_ms_; }
  double document_bytes() const;
  double recomputed_rows() const { return recomputed_rows_; }
  double recomputed_share() const { return recomputed_share_; }

 private:
  engine::kv_shape shape() const {
    auto shape = model_.runner.cache_shape();
    shape.coding = options_.coding;
    return shape;
  }
  result<policies::stitch_plan> plan(std::span<const token_id> question) const;
  result<void> put_together(const policies::stitch_plan& plan);
  result<void> read_question(const policies::stitch_plan& plan);

  loaded_model& model_;
  policies::stitch_policy stitch_;
  reading_options options_;
  context_documents context_;
  std::vector<std::vector<token_id>> links_;
  std::optional<engine::kv_cache> cache_;
  std::vector<float> logits_;
  double rotate_ms_ = 0;
  double compute_ms_ = 0;
  double recomputed_rows_ = 0;
  double recomputed_share_ = 0;
};

result<void> reader::open(const set_context& context) {
  cache_.reset();
  logits_.resize(model_.runner.config().vocab_size);
  auto opened = open_documents(model_, context, stitch_.kind != policies::stitch_kind::full);
  if (!opened) return tl::unexpected(opened.error());
  context_ = std::move(*opened);
  if (stitch_.kind != policies::stitch_kind::link) return {};
  auto links = engine::link_tokens(model_.runner.config(), stitch_.tokens, context_.documents.size());
  if (!links) return tl::unexpected(links.error());
  links_ = std::move(*links);
  return {};
}

double reader::document_bytes() const {
  const auto rows = shape();
  const std::size_t row_bytes = rows.row_bytes() + rows.row_scales() * sizeof(std::uint16_t);
  return 2.0 * static_cast<double>(context_.tokens()) *
         static_cast<double>(std::size_t{rows.layers} * rows.kv_heads * row_bytes);
}

result<policies::stitch_plan> reader::plan(std::span<const token_id> question) const {
  const auto parts = context_.parts();
  return policies::plan_stitch(stitch_, {.opening = context_.opening,
                                         .documents = parts,
                                         .question = question,
                                         .inserted = links_,
                                         .positions = options_.positions});
}

result<void> reader::put_together(const policies::stitch_plan& plan) {
  const auto started = clock::now();
  cache_.emplace(shape(), model_.runner.config().max_context_tokens);
  if (auto reserved = engine::reserve_computed_rows(*cache_, plan); !reserved) return reserved;
  for (std::size_t i = 0; i < plan.documents.size(); ++i) {
    const auto& placed = plan.documents[i];
    if (placed.source != policies::document_source::load) continue;
    auto done = engine::scatter_document(model_.runner, *cache_, context_.encoded[i], placed.start_position,
                                         placed.segment, placed.rotated_position);
    if (!done) return done;
  }
  rotate_ms_ = milliseconds_since(started);
  const auto placed = clock::now();
  const auto done = engine::prefill(model_.runner, *cache_, plan, logits_);
  if (!done) return tl::unexpected(done.error());
  compute_ms_ = milliseconds_since(placed);
  recomputed_rows_ = plan.recomputed_rows;
  recomputed_share_ = plan.recomputed_share(model_.runner.config().layers);
  return {};
}

result<void> reader::read_question(const policies::stitch_plan& plan) {
  const auto rows = std::span(plan.rows).last(plan.question_rows);
  cache_->truncate(rows.front().position);
  return engine::prefill_rows(model_.runner, *cache_, rows, logits_);
}

result<std::string> reader::ask(const std::string& question, std::uint32_t most_tokens) {
  const auto asked = model_.format.question(model_.tokens, question);
  const auto planned = plan(asked);
  if (!planned) return tl::unexpected(planned.error());
  if (auto fits = check_length(model_, planned->prompt_tokens, most_tokens); !fits)
    return tl::unexpected(fits.error());
  const auto done = cache_ ? read_question(*planned) : put_together(*planned);
  if (!done) return tl::unexpected(done.error());
  return decode_answer(model_, *cache_, logits_, static_cast<std::int32_t>(planned->prompt_tokens),
                       most_tokens);
}

result<void> read_context(reader& reading, const loaded_model& model, const set_context& context,
                          tally& counted) {
  const auto named = [&](const error& e) {
    return tl::unexpected(error{e.code, context.id + ": " + e.context});
  };
  if (auto opened = reading.open(context); !opened) return named(opened.error());
  for (const auto& question : context.questions) {
    const auto answer = reading.ask(question.text, answer_tokens(model, context, question));
    if (!answer) return named(answer.error());
    counted.scores.push_back(score_of(context, question, *answer));
  }
  counted.bytes.push_back(reading.document_bytes());
  counted.recomputed_rows.push_back(reading.recomputed_rows());
  counted.recomputed_share.push_back(reading.recomputed_share());
  counted.rotate_ms.push_back(reading.rotate_ms());
  counted.compute_ms.push_back(reading.compute_ms());
  counted.ttft_ms.push_back(reading.rotate_ms() + reading.compute_ms());
  return {};
}

}  // namespace

result<std::vector<evaluation_cell>> evaluate(loaded_model& model, std::span<const set_context> contexts,
                                              policies::stitch_policy stitch,
                                              const evaluation_progress& progress,
                                              const reading_options& options) {
  reader reading(model, stitch, options);
  by_task<tally> counted;
  std::size_t done = 0;
  for (const auto& context : contexts) {
    if (auto read = read_context(reading, model, context, counted.of(context.task)); !read)
      return tl::unexpected(read.error());
    progress(++done);
  }
  std::vector<evaluation_cell> cells;
  for (const auto& [task, answers] : counted) {
    cells.push_back(cell_of(task, answers));
    cells.back().stitch = stitch;
    cells.back().coding = options.coding;
  }
  return cells;
}

}  // namespace weft::launcher::study
