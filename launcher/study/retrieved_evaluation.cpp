#include <weft/engine/question_queries.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/launcher/study/answering.hpp>
#include <weft/launcher/study/retrieved_evaluation.hpp>
#include <weft/launcher/study/score.hpp>
#include <weft/policies/retrieval/document_ranking.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include "by_task.hpp"
#include "context_documents.hpp"
#include "elapsed.hpp"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <numeric>
#include <utility>

namespace weft::launcher::study {

namespace {

using engine::token_id;
using clock = std::chrono::steady_clock;
namespace retrieval = policies::retrieval;

std::vector<std::string> parts_of(const std::string& answer) {
  constexpr std::string_view between = ", ";
  std::vector<std::string> parts;
  std::size_t first = 0;
  for (auto found = answer.find(between); found != std::string::npos; found = answer.find(between, first)) {
    parts.push_back(answer.substr(first, found - first));
    first = found + between.size();
  }
  parts.push_back(answer.substr(first));
  return parts;
}

std::vector<std::string> names_of(const std::string& question) {
  std::vector<std::string> words{""};
  for (const char c : question) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0)
      words.back() += c;
    else if (!words.back().empty())
      words.emplace_back();
  }
  std::vector<std::string> names;
  for (std::size_t i = 1; i < words.size(); ++i)
    if (!words[i].empty() && std::isupper(static_cast<unsigned char>(words[i][0])) != 0)
      names.push_back(words[i]);
  return names;
}

// A document of the set: what it is ranked by, and its rows.
struct pooled_document {
  std::vector<token_id> tokens;
  engine::encoded_document encoded;
  retrieval::document_keys keys;
};

struct pooled_context {
  std::size_t first = 0;  // of its documents
  std::size_t last = 0;
};

retrieval::document_keys keys_of(const engine::encoded_document& document) {
  const retrieval::document_ranking how;
  const auto& shape = document.shape();
  const auto layer = retrieval::ranking_layer(how, shape.layers);
  const auto channels = retrieval::kept_channels(shape.head_dim, how.dim_ratio);
  retrieval::document_keys made({.kv_heads = shape.kv_heads,
                                 .head_dim = shape.head_dim,
                                 .vectors = retrieval::merged_vectors(document.tokens(), how.token_merge),
                                 .channels = channels,
                                 .type = shape.dtype});
  std::vector<float> keys(std::size_t{document.tokens()} * shape.head_dim);
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    kernels::to_f32(shape.dtype, document.k() + layer * document.layer_bytes() + head * document.head_bytes(),
                    keys.data(), keys.size());
    const auto reduced = retrieval::reduce_head(keys, shape.head_dim, channels, how.token_merge);
    made.set(head, reduced.channels, reduced.vectors);
  }
  return made;
}

// Of one task and one number of documents.
struct retrieved_tally {
  tally answers;
  std::vector<double> found, pool_documents;
};

class retrieving_reader {
 public:
  retrieving_reader(loaded_model& model, document_pool pool) : model_(model), pool_(pool) {
    logits_.resize(model.runner.config().vocab_size);
  }

  result<void> open(std::span<const set_context> contexts);
  // Documents of the pool of a context, best first for that question.
  result<std::vector<std::size_t>> rank(std::size_t context, const std::string& question);
  result<std::string> ask(std::vector<std::size_t> chosen, const std::string& question,
                          std::uint32_t most_tokens, tally& counted);

  std::size_t first_of(std::size_t context) const { return contexts_[context].first; }
  std::size_t pool_size(std::size_t context) const { return pool_of(context).last - pool_of(context).first; }

 private:
  pooled_context pool_of(std::size_t context) const {
    return pool_ == document_pool::set ? pooled_context{0, documents_.size()} : contexts_[context];
  }

  loaded_model& model_;
  document_pool pool_;
  std::vector<pooled_document> documents_;
  std::vector<pooled_context> contexts_;
  std::vector<float> logits_;
};

result<void> retrieving_reader::open(std::span<const set_context> contexts) {
  for (const auto& context : contexts) {
    auto opened = open_documents(model_, context, true);
    if (!opened)
      return tl::unexpected(error{opened.error().code, context.id + ": " + opened.error().context});
    contexts_.push_back({documents_.size(), documents_.size() + opened->documents.size()});
    for (std::size_t i = 0; i < opened->documents.size(); ++i) {
      auto keys = keys_of(opened->encoded[i]);
      documents_.push_back({std::move(opened->documents[i]), std::move(opened->encoded[i]), std::move(keys)});
    }
  }
  return {};
}

result<std::vector<std::size_t>> retrieving_reader::rank(std::size_t context, const std::string& question) {
  const retrieval::document_ranking how;
  const auto asked = model_.format.question(model_.tokens, question);
  auto prompt = model_.format.opening(model_.tokens, "");
  prompt.insert(prompt.end(), asked.begin(), asked.end());
  const auto rows = retrieval::ranking_rows(how, asked.size(), model_.format.question_suffix().size());
  const auto& config = model_.runner.config();
  const auto queries =
      engine::question_queries(model_.runner, prompt, retrieval::ranking_layer(how, config.layers), rows);
  if (!queries) return tl::unexpected(queries.error());
  const auto [first, last] = pool_of(context);
  const std::size_t lines = std::size_t{rows} * config.query_heads;
  std::vector<float> best((last - first) * lines);
  for (auto i = first; i < last; ++i)
    documents_[i].keys.best_products(*queries, config.query_heads,
                                     std::span(best).subspan((i - first) * lines, lines),
                                     model_.runner.threads());
  auto order = retrieval::best_documents(retrieval::document_scores(best, lines), last - first);
  for (auto& document : order)
    document += first;
  return order;
}

result<std::string> retrieving_reader::ask(std::vector<std::size_t> chosen, const std::string& question,
                                           std::uint32_t most_tokens, tally& counted) {
  std::ranges::sort(chosen);
  std::vector<policies::prompt_document> parts;
  parts.reserve(chosen.size());
  for (const auto document : chosen)
    parts.push_back({documents_[document].tokens, true});
  const auto opening = model_.format.opening(model_.tokens, "");
  const auto asked = model_.format.question(model_.tokens, question);
  const auto plan =
      policies::plan_stitch({}, {.opening = opening, .documents = parts, .question = asked, .inserted = {}});
  if (!plan) return tl::unexpected(plan.error());
  if (auto fits = check_length(model_, plan->prompt_tokens, most_tokens); !fits)
    return tl::unexpected(fits.error());
  const auto started = clock::now();
  engine::kv_cache cache(model_.runner.cache_shape(), plan->prompt_tokens + most_tokens);
  if (auto reserved = engine::reserve_computed_rows(cache, *plan); !reserved)
    return tl::unexpected(reserved.error());
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const auto& placed = plan->documents[i];
    auto done = engine::scatter_document(model_.runner, cache, documents_[chosen[i]].encoded,
                                         placed.start_position, placed.segment);
    if (!done) return tl::unexpected(done.error());
  }
  counted.rotate_ms.push_back(milliseconds_since(started));
  const auto placed = clock::now();
  if (auto done = engine::prefill(model_.runner, cache, *plan, logits_); !done)
    return tl::unexpected(done.error());
  counted.compute_ms.push_back(milliseconds_since(placed));
  counted.ttft_ms.push_back(milliseconds_since(started));
  counted.bytes.push_back(static_cast<double>(cache.allocated_bytes()));
  return decode_answer(model_, cache, logits_, static_cast<std::int32_t>(plan->prompt_tokens), most_tokens);
}

bool holds_all(std::span<const std::vector<std::size_t>> evidence, std::span<const std::size_t> chosen,
               std::size_t first) {
  return std::ranges::all_of(evidence, [&](const auto& any) {
    return std::ranges::any_of(any, [&](std::size_t document) {
      return std::ranges::find(chosen, first + document) != chosen.end();
    });
  });
}

using tallies = std::vector<retrieved_tally>;  // by count

result<void> ask_all(retrieving_reader& reading, const loaded_model& model, const set_context& context,
                     std::size_t number, std::span<const std::size_t> counts, tallies& counted) {
  for (const auto& question : context.questions) {
    const auto order = reading.rank(number, question.text);
    if (!order) return tl::unexpected(order.error());
    const auto evidence = evidence_of(context.documents, question);
    for (std::size_t i = 0; i < counts.size(); ++i) {
      const auto chosen = std::span(*order).first(std::min(counts[i], order->size()));
      const auto answer = reading.ask({chosen.begin(), chosen.end()}, question.text,
                                      answer_tokens(model, context, question), counted[i].answers);
      if (!answer) return tl::unexpected(answer.error());
      counted[i].answers.scores.push_back(score_of(context, question, *answer));
      counted[i].found.push_back(holds_all(evidence, chosen, reading.first_of(number)) ? 1 : 0);
      counted[i].pool_documents.push_back(static_cast<double>(reading.pool_size(number)));
    }
  }
  return {};
}

retrieved_cell cell_of(const std::string& task, const retrieved_tally& counted, std::size_t count,
                       document_pool pool) {
  const double share = mean(counted.found);
  const auto certain = wilson(share, counted.found.size());
  auto answers = counted.answers;
  answers.recomputed_rows = answers.recomputed_share = {0.0};
  return {.answers = study::cell_of(task, answers),
          .chosen = count,
          .pool = pool,
          .pool_documents = mean(counted.pool_documents),
          .recall = 100 * share,
          .recall_low = 100 * certain.low,
          .recall_high = 100 * certain.high};
}

}  // namespace

std::vector<std::vector<std::size_t>> evidence_of(std::span<const std::string> documents,
                                                  const set_question& question) {
  std::vector<std::vector<std::size_t>> evidence;
  auto names = names_of(question.text);
  for (const auto& part : parts_of(question.answers.front())) {
    std::vector<std::size_t> together, alone;
    for (std::size_t i = 0; i < documents.size(); ++i) {
      const auto holds = [&](const std::string& text) {
        return documents[i].find(text) != std::string::npos;
      };
      if (!holds(part)) continue;
      alone.push_back(i);
      if (std::ranges::any_of(names, holds)) together.push_back(i);
    }
    evidence.push_back(together.empty() ? std::move(alone) : std::move(together));
    names.push_back(part);
  }
  return evidence;
}

result<std::vector<retrieved_cell>> evaluate_retrieved(loaded_model& model,
                                                       std::span<const set_context> contexts,
                                                       std::span<const std::size_t> counts,
                                                       document_pool pool,
                                                       const evaluation_progress& progress) {
  retrieving_reader reading(model, pool);
  if (auto opened = reading.open(contexts); !opened) return tl::unexpected(opened.error());
  by_task<tallies> counted;
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    auto& of_task = counted.of(contexts[i].task);
    of_task.resize(counts.size());
    if (auto done = ask_all(reading, model, contexts[i], i, counts, of_task); !done)
      return tl::unexpected(error{done.error().code, contexts[i].id + ": " + done.error().context});
    progress(i + 1);
  }
  std::vector<retrieved_cell> cells;
  for (const auto& [task, of_task] : counted)
    for (std::size_t i = 0; i < counts.size(); ++i)
      cells.push_back(cell_of(task, of_task[i], counts[i], pool));
  return cells;
}

}  // namespace weft::launcher::study
