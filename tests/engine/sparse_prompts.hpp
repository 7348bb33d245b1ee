// Prompts of some documents and a question, and their answers by dense and by sparse decoding.
#pragma once

#include <weft/engine/document.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/sparse_context.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace weft::engine::test {

inline constexpr std::uint32_t answer_tokens = 24;

// A prompt of some documents and a question, dense in one cache.
struct prompt {
  std::vector<encoded_document> encoded;
  std::vector<policies::retrieval::context_document> documents;
  kv_cache whole;
  recent_queries recent;
  std::vector<float> logits;
  std::int32_t next_position = 0;
};

enum class kept { all, some };

// With `kept::some`, rows of documents are missing, of each head others.
prompt dense_prompt(runner& model, std::uint32_t stride, kept rows_kept = kept::all);

std::vector<token_id> dense_answer(runner& model, prompt& asked);

// Counts what is fetched, and can hold rows back until they are waited for.
class counting_source final : public block_source {
 public:
  counting_source(cached_blocks inner, bool late) : inner_(std::move(inner)), late_(late) {}

  void begin(std::span<const block_load> loads) override {
    fetched += loads.size();
    if (late_)
      held_.insert(held_.end(), loads.begin(), loads.end());
    else
      inner_.begin(loads);
  }
  bool arrived() override { return held_.empty(); }
  result<void> wait() override {
    inner_.begin(held_);
    held_.clear();
    return {};
  }

  std::size_t fetched = 0;

 private:
  cached_blocks inner_;
  bool late_;
  std::vector<block_load> held_;
};

// The most rows of a block, by head.
std::vector<std::uint32_t> most_rows(prompt& asked, const policies::retrieval::options& options);

struct sparse_answer {
  std::vector<token_id> tokens;
  std::vector<float> logits;  // of the last step
  sparse_counters counters;
  std::size_t fetched = 0;
};

sparse_answer answer_with(runner& model, prompt& asked, const policies::retrieval::options& options,
                          sparse_context& sparse, bool late);
sparse_answer answer_sparsely(runner& model, prompt& asked, const policies::retrieval::options& options,
                              bool late);

policies::retrieval::options small_blocks(policies::retrieval::policy policy, double ratio,
                                          std::uint32_t stride = 3);

inline constexpr policies::retrieval::policy every_policy[] = {
    policies::retrieval::policy::full, policies::retrieval::policy::kvstar, policies::retrieval::policy::esa,
    policies::retrieval::policy::quest, policies::retrieval::policy::kvstar_ahead};

}  // namespace weft::engine::test
