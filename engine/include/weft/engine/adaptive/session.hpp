// Generation with a decode cache of bounded size: a cache policy says which rows stay, rows that leave give
// their memory back and, where there is a passive store, come back from it when they matter.
//
//   prompt_record record(model, tokens, whole, {.hidden = true});
//   model.forward(prompt, {&whole}, logits, &record);          // dense, causal
//   adaptive_session session(model, pool, policy, store);
//   session.start(whole, record, kinds);                       // `whole` is not needed any more
//   for each token: session.step(token, logits);
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/adaptive/passive_store.hpp>
#include <weft/engine/adaptive/row_pages.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/policies/adaptive/cache_policy.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

policies::adaptive::session_shape session_shape_of(const model_config& config);

// What a prompt's forward pass showed that a policy may ask for. Positions count from 0; all rows of segment
// 0.
class prompt_record final : public forward_observer {
 public:
  static constexpr std::uint32_t usual_last_rows = 32;
  struct options {
    bool all_sums = false;                      // the attention that each token gets from all rows, too (h2o)
    bool hidden = false;                        // hidden states (atskv)
    std::uint32_t last_rows = usual_last_rows;  // that are known one by one
  };
  // `whole` takes the prompt's rows; both must outlive this.
  prompt_record(runner& model, std::uint32_t tokens, kv_cache& whole, const options& wanted);

  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override;
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;

  std::uint32_t tokens() const { return tokens_; }
  // [layer][query_head][token] from the last `window` rows. `unsupported` where that was not recorded.
  result<std::vector<float>> sums(std::uint32_t window) const;
  // Weights of the prompt's `row`-th last row over all tokens, zeros behind it: [kv_head][group][token].
  void weights_of(std::uint32_t layer, std::uint32_t rows_before_last, std::vector<float>& out) const;
  std::span<const float> hidden(std::uint32_t layer) const;

 private:
  runner& model_;
  kv_cache& whole_;
  std::uint32_t tokens_;
  std::uint32_t last_rows_;
  std::size_t query_width_;
  std::vector<float> queries_;   // [layer][last row][query_head][head_dim]
  std::vector<float> all_sums_;  // [layer][query_head][token]
  std::vector<float> hidden_;    // [layer][token][hidden]
  std::vector<std::int32_t> positions_, segments_;
  std::vector<float> log_sums_;
  kernels::workspace scratch_;
};

struct adaptive_counters {
  std::uint64_t steps = 0;
  std::uint64_t removed_rows = 0;
  std::uint64_t promoted_rows = 0;
  std::uint64_t pages_stored = 0;
  std::uint64_t pages_promoted = 0;
  std::uint64_t pages_on_time = 0;  // of those, there when their layer began to attend
  std::uint64_t pages_lost = 0;     // stored, and not to be had: the session went on without them
  std::uint64_t bytes_moved = 0;    // to and from the passive store
};

class adaptive_session final : public forward_observer {
 public:
  // `pool` and `store` must outlive the session. A policy that recalls needs a store.
  adaptive_session(runner& model, row_page_pool& pool,
                   std::unique_ptr<policies::adaptive::cache_policy> policy, passive_store* store);
  ~adaptive_session() override;

  // Takes over the prompt: the rows that the policy keeps are copied out of `whole`, the others stored or
  // left behind. kinds: by token (see `policies::adaptive::token_kinds`), or empty.
  result<void> start(kv_cache& whole, const prompt_record& record, std::span<const std::uint8_t> kinds);

  // One token behind all others; its logits where the span is not empty.
  result<void> step(token_id token, std::uint8_t kind, std::span<float> logits);

  // From now on, every row's key goes to `everything`, too, which holds the prompt, and each step measures
  // how much of its full attention falls on the rows that it reads.
  void measure_attention(kv_cache& everything);
  double recalled_attention() const;  // mean over steps, layers and query heads

  const policies::adaptive::cache_policy& policy() const { return *policy_; }
  const adaptive_counters& counters() const { return counters_; }
  std::uint32_t tokens() const { return tokens_; }
  std::uint64_t resident_rows() const;
  const paged_rows& rows_of(std::uint32_t layer, std::uint32_t kv_head) const {
    return heads_[head_of(layer, kv_head)];
  }
  // Rows, and what is at hand of passive ones: sketches of keys, or pages' smallest and largest ones.
  std::size_t row_bytes() const;
  std::size_t summary_bytes() const;
  // Books of policy and session, and rows on their way to the store.
  std::size_t state_bytes() const;

  void layer_input(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows,
                   const float* normed) override;
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;
  bool wants_queries_ahead() const override;
  bool estimates_suffice() const override { return true; }
  void queries_ahead(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;
  std::span<const kernels::kv_run> more_rows(std::uint32_t layer, const kv_cache& cache,
                                             std::uint32_t kv_head) override;

 private:
  class passive_pages;

  void feed_prompt(kv_cache& whole, const prompt_record& record, std::span<const std::uint8_t> kinds);
  void fill(kv_cache& whole);
  void add_staged_row(std::uint32_t layer);
  void choose_runs(std::uint32_t layer, const float* q);
  void observe(std::uint32_t layer, const float* q);
  void measure(std::uint32_t layer, const float* q);
  void recall(std::uint32_t layer, const float* q, bool ahead);
  void finish_recall();
  void keep_staged_rows();
  void carry_out(std::span<const policies::adaptive::removed_row> removed);
  std::size_t head_of(std::uint32_t layer, std::uint32_t kv_head) const;

  runner& model_;
  row_page_pool& pool_;
  std::unique_ptr<policies::adaptive::cache_policy> policy_;
  policies::adaptive::policy_needs needs_;
  policies::adaptive::session_shape shape_;
  std::vector<paged_rows> heads_;
  kv_cache staged_;  // the row of the running step
  std::unique_ptr<passive_pages> passive_;
  std::uint32_t tokens_ = 0;
  std::uint32_t next_layer_ = 0;    // of the running step: the first whose queries are not there
  std::uint32_t asked_layers_ = 0;  // of the running step: whose passive rows were looked at
  row_batch batch_;
  std::vector<std::vector<kernels::kv_run>> runs_;  // [head], without the staged row
  std::vector<std::vector<std::uint32_t>> slots_;   // by KV head
  std::vector<std::vector<float>> weights_;         // by KV head
  std::vector<float> keys_, values_;
  kv_cache* everything_ = nullptr;
  double attention_sum_ = 0;
  std::uint64_t attention_count_ = 0;
  adaptive_counters counters_;
};

}  // namespace weft::engine
