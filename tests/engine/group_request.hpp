// What a test asks of the processes of a group, as one line, and how a rank answers it.
#pragma once

#include <weft/engine/generation.hpp>
#include <weft/engine/shared_blocks.hpp>
#include <weft/engine/stitch.hpp>

#include <cstdint>
#include <span>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace weft::engine::test {

// The n-th block of a document, as stored_document writes it.
inline block::expectation expected_block(std::uint64_t number) {
  block::expectation expected;
  expected.key = {1, number};
  expected.fingerprint = {2, 3};
  return expected;
}

struct stored_range {
  std::uint64_t offset = 0;  // in the pool's arena
  std::uint64_t length = 0;
};

struct group_request {
  unsigned root = 0;         // that fetches
  std::string pool_address;  // in hexadecimal
  std::vector<token_id> opening, question, stop_tokens;
  std::vector<std::vector<token_id>> documents;
  std::vector<std::vector<stored_range>> blocks;  // by document
};

template <class Number>
void write_list(std::ostream& to, const std::vector<Number>& list) {
  to << ' ' << list.size();
  for (const auto value : list)
    to << ' ' << value;
}

template <class Number>
std::vector<Number> read_list(std::istream& from) {
  std::size_t count = 0;
  from >> count;
  std::vector<Number> list(count);
  for (auto& value : list)
    from >> value;
  return list;
}

inline std::string to_line(const group_request& asked) {
  std::ostringstream line;
  line << "ask " << asked.root << ' ' << asked.pool_address;
  for (const auto* list : {&asked.opening, &asked.question, &asked.stop_tokens})
    write_list(line, *list);
  line << ' ' << asked.documents.size();
  for (std::size_t d = 0; d < asked.documents.size(); ++d) {
    write_list(line, asked.documents[d]);
    std::vector<std::uint64_t> ranges;
    for (const auto& range : asked.blocks[d])
      ranges.insert(ranges.end(), {range.offset, range.length});
    write_list(line, ranges);
  }
  return line.str();
}

inline group_request request_from(const std::string& text) {
  std::istringstream line(text);
  group_request asked;
  std::string word;
  line >> word >> asked.root >> asked.pool_address;
  for (auto* list : {&asked.opening, &asked.question, &asked.stop_tokens})
    *list = read_list<token_id>(line);
  std::size_t documents = 0;
  line >> documents;
  for (std::size_t d = 0; d < documents; ++d) {
    asked.documents.push_back(read_list<token_id>(line));
    const auto ranges = read_list<std::uint64_t>(line);
    auto& blocks = asked.blocks.emplace_back();
    for (std::size_t i = 0; i + 1 < ranges.size(); i += 2)
      blocks.push_back({ranges[i], ranges[i + 1]});
  }
  return asked;
}

struct group_answer {
  std::vector<float> logits;  // of the question's last row
  std::vector<token_id> tokens;
};

// Stitches the documents' blocks and generates. `blocks` by document.
inline result<group_answer> answer(runner& model, const group_request& asked,
                                   std::span<const document_blocks> blocks) {
  std::vector<policies::prompt_document> parts;
  for (const auto& tokens : asked.documents)
    parts.push_back({tokens, true});
  const auto plan =
      policies::plan_stitch(policies::stitch_policy::none,
                            {.opening = asked.opening, .documents = parts, .question = asked.question});
  if (!plan) return tl::make_unexpected(plan.error());
  constexpr std::uint32_t most_tokens = 24;
  kv_cache cache(model.cache_shape(), plan->prompt_tokens + most_tokens);
  if (auto loaded = load_documents(model, cache, *plan, blocks); !loaded)
    return tl::make_unexpected(loaded.error());
  group_answer given{.logits = std::vector<float>(model.config().vocab_size), .tokens = {}};
  if (auto done = prefill(model, cache, *plan, given.logits); !done) return tl::make_unexpected(done.error());
  decode_batch batch(model);
  const auto first =
      batch.add(1, std::move(cache), static_cast<std::int32_t>(plan->prompt_tokens), given.logits,
                {.sampled = {}, .stop_tokens = asked.stop_tokens, .max_tokens = most_tokens});
  if (!first) return tl::make_unexpected(first.error());
  given.tokens.push_back(first->token);
  while (batch.active() > 0) {
    const auto step = batch.step();
    if (!step) return tl::make_unexpected(step.error());
    given.tokens.push_back(step->front().token);
  }
  return given;
}

}  // namespace weft::engine::test
