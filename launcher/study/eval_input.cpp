#include "eval_input.hpp"

#include <spdlog/spdlog.h>

#include <cstddef>
#include <span>
#include <utility>

namespace weft::launcher::study {

namespace {

// Of 0, all.
template <class Item>
void keep_first(std::vector<Item>& items, std::size_t count) {
  if (count > 0 && items.size() > count)
    items.erase(items.begin() + static_cast<std::ptrdiff_t>(count), items.end());
}

}  // namespace

result<std::vector<named_set>> read_sets(const eval_input& input) {
  std::vector<named_set> sets;
  for (const auto& file : input.sets) {
    auto contexts = read_set_file(file, input.format);
    if (!contexts) return tl::unexpected(contexts.error());
    keep_first(*contexts, input.limit);
    for (set_context& context : *contexts)
      keep_first(context.questions, input.questions);
    sets.push_back({file, file.stem().string(), std::move(*contexts)});
  }
  return sets;
}

namespace {

void cut_middle(set_context& context, const loaded_model& model, std::size_t longest_tokens) {
  std::vector<std::vector<engine::token_id>> documents;
  std::size_t tokens = 0;
  for (const auto& text : context.documents) {
    documents.push_back(model.tokens.encode(text, engine::special_tokens::as_text));
    tokens += documents.back().size();
  }
  if (tokens <= longest_tokens) return;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const std::span all(documents[i]);
    const std::size_t kept = all.size() * longest_tokens / tokens;
    context.documents[i] =
        model.tokens.decode(all.first(kept - kept / 2)) + model.tokens.decode(all.last(kept / 2));
  }
}

}  // namespace

void cut_middles(std::vector<named_set>& sets, const loaded_model& model, std::size_t longest_tokens) {
  for (auto& set : sets)
    for (auto& context : set.contexts)
      cut_middle(context, model, longest_tokens);
}

evaluation_progress logged_progress(const named_set& set, std::string what) {
  return [&set, what = std::move(what)](std::size_t done) {
    if (done % 10 == 0 || done == set.contexts.size())
      spdlog::info("{}, {}: {} of {} contexts", set.name, what, done, set.contexts.size());
  };
}

error in_set(const named_set& set, const error& e) {
  return {e.code, set.file.string() + ": " + e.context};
}

}  // namespace weft::launcher::study
