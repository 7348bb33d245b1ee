#include <weft/engine/repeat_plan.hpp>

#include <algorithm>

namespace weft::engine {

namespace {

constexpr std::string_view first_words = "Repeat the previous context exactly.";
constexpr std::string_view later_words = "Repeat the part of the previous context exactly, starting with ";

std::vector<token_id> joined(std::vector<token_id> left, const std::vector<token_id>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

repeat_plan plan_of(const repeat_metadata& metadata, const tokenizer& tokens) {
  repeat_plan plan;
  plan.prompt.prefix = tokens.encode(metadata.prefix);
  plan.prompt.suffix = tokens.encode(metadata.suffix);
  plan.prompt.hint_tokens = metadata.hint_tokens;
  plan.prompt.hint_from =
      metadata.hint_from_chunk_head ? hint_source::chunk_head : hint_source::previous_tail;
  plan.by_document = metadata.chunk_tokens == 0;
  if (!plan.by_document) plan.chunk_tokens = metadata.chunk_tokens;
  plan.skip_tokens = metadata.skip_tokens;
  return plan;
}

}  // namespace

std::vector<repeat_chunk> repeat_plan::chunks(std::uint32_t first, std::uint32_t end) const {
  auto found = by_document ? std::vector<repeat_chunk>{{first, end, 0}} : chunks_of(first, end, chunk_tokens);
  for (repeat_chunk& chunk : found)
    chunk.skip = std::min(skip_tokens, chunk.end - chunk.first - 1);
  return found;
}

std::vector<repeat_chunk> repeat_plan::chunks(std::span<const std::int32_t> segments,
                                              std::uint32_t system_rows) const {
  const auto tokens = static_cast<std::uint32_t>(segments.size());
  if (!by_document) return chunks(system_rows, tokens);
  std::vector<repeat_chunk> found;
  for (std::uint32_t first = system_rows, end = first; first < tokens; first = end) {
    while (end < tokens && segments[end] == segments[first])
      ++end;
    found.push_back(chunks(first, end).front());
  }
  return found;
}

result<repeat_plan> repeat_plan_for(const model_config& config, const tokenizer& tokens,
                                    const prompt_format& format) {
  if (config.weft && config.weft->repeat) {
    auto plan = plan_of(*config.weft->repeat, tokens);
    const bool empty = plan.prompt.prefix.empty() && plan.prompt.suffix.empty();
    if (empty) return fail(errc::invalid_argument, "config.json: \"weft.repeat_prompt\" has no words");
    return plan;
  }
  repeat_plan plan;
  const auto opened = [&](std::string_view words) {
    return joined(format.question_prefix(), tokens.encode(words, special_tokens::as_text));
  };
  plan.prompt.prefix = opened(first_words);
  plan.prompt.later_prefix = opened(later_words);
  plan.prompt.suffix = format.question_suffix();
  return plan;
}

}  // namespace weft::engine
