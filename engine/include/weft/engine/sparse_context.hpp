// Sparse decoding of one session: the rows of a context that are not always attended lie elsewhere, and a
// decode step attends to the few blocks of them that its retrieval policy chose.
//
//   recent_queries recent(model.config(), options.stride);
//   model.forward(prompt, {&whole}, logits, &recent);          // dense; gives the first answer token
//   sparse_context sparse(model, options, documents, source);
//   sparse.add_document(i, encoded);                            // for each document
//   kv_cache resident = sparse.start(whole, answer_tokens, recent);
//   for each step: sparse.begin_step(); model.forward(row, {&resident}, logits, &sparse); sparse.end_step();
//
// `resident` holds everything but the middle blocks; chosen ones lie in slots of the context's own: never
// more than twice as many as are attended. Documents may have lost rows, in each head others: blocks are
// ranked by all rows that there were, and attended with those that are left.
//
// A context that never lies here as a whole, which may be larger than memory: its middle blocks come through
// the slots, layer by layer, while the prompt's rows are computed against them, exactly.
//
//   sparse_context sparse(model, options, documents, scorer);   // or ranked here, as above
//   kv_cache resident(...);                                     // documents without the middle blocks
//   sparse.open(source);
//   model.forward(prompt, {&resident}, logits, &sparse);
//   sparse.start_decoding();                                    // then steps, as above
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/kernels/aligned_buffer.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>
#include <weft/policies/retrieval/schedule.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

namespace weft::engine {

// The queries of the last rows that a session's forward passes computed, by layer. Passes of one cache only.
class recent_queries final : public forward_observer {
 public:
  recent_queries(const model_config& config, std::uint32_t steps);

  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;

  // Oldest first; fewer than asked for where fewer rows were computed.
  policies::retrieval::query_group group(std::uint32_t layer) const;

 private:
  std::size_t width_;
  std::uint32_t steps_;
  std::vector<float> queries_;        // [layer][step][query_head][head_dim]
  std::vector<std::uint32_t> known_;  // by layer
};

// Where the rows of one KV head of a block go: K rows, rotated to their positions, and V rows, in any order.
struct slot_head {
  std::byte* k = nullptr;
  std::byte* v = nullptr;
  std::uint32_t capacity_rows = 0;
  std::uint32_t rows = 0;  // said by who brings them
};

// A middle block of one layer that is wanted.
struct block_load {
  std::uint32_t layer = 0;
  std::uint32_t block = 0;
  std::span<slot_head> heads;
};

// Where blocks lie that are not resident.
class block_source {
 public:
  virtual ~block_source() = default;
  // May return before the rows are there.
  virtual void begin(std::span<const block_load> loads) = 0;
  // Whether everything that was begun is there.
  virtual bool arrived() = 0;
  // Returns when it is. An error is final: the session cannot go on.
  virtual result<void> wait() = 0;
  // What was begun and could not be had since the last call, after `arrived` or `wait`.
  virtual std::vector<block_load> take_lost() { return {}; }
};

struct layer_group {
  std::uint32_t layer = 0;
  policies::retrieval::query_group group;
};

// Where the middle blocks are ranked.
class block_scorer {
 public:
  virtual ~block_scorer() = default;
  // Begins to rank under these layers' queries, which are valid during the call.
  virtual void submit(std::span<const layer_group> asked) = 0;
  // Scores of a submitted layer's blocks, one for each middle block. False: not all places have answered in
  // time; the blocks of those keep what `scores` had.
  virtual bool collect(std::uint32_t layer, std::span<float> scores) = 0;

  // Calls `ready` once, on another thread, when `collect` of this submitted layer would not wait: all places
  // have answered. False: it would not wait now, or this is not known here; nobody is called.
  virtual bool when_ranked(std::uint32_t /*layer*/, std::function<void()> /*ready*/) { return false; }
  // Takes that back. False: it was called, and has returned.
  virtual bool take_back() { return false; }
};

// Rows out of a cache that holds the whole prompt: copied when asked for.
class cached_blocks final : public block_source {
 public:
  // `whole` must outlive this and keep its rows.
  cached_blocks(const kv_cache& whole, std::span<const policies::retrieval::context_block> middle,
                std::uint32_t block_tokens);

  void begin(std::span<const block_load> loads) override;
  bool arrived() override { return true; }
  result<void> wait() override { return {}; }

 private:
  const kv_cache& whole_;
  std::vector<policies::retrieval::context_block> middle_;
  std::uint32_t block_tokens_;
};

struct sparse_counters {
  std::uint64_t steps = 0;
  std::uint64_t rankings = 0;        // of one layer's blocks
  std::uint64_t blocks_moved = 0;    // of one layer
  std::uint64_t bytes_moved = 0;     // of rows that came
  std::uint64_t late_loads = 0;      // waited for
  std::uint64_t stale_rankings = 0;  // of a layer, in which a place did not answer in time
  std::uint64_t blocks_lost = 0;     // chosen, and nobody delivered them: not attended
};

class sparse_context final : public forward_observer {
 public:
  // `documents` by ascending position in the prompt. `slot_rows`, [layer][kv_head]: the most rows of a middle
  // block; none: all of its tokens.
  sparse_context(runner& model, const policies::retrieval::options& options,
                 std::span<const policies::retrieval::context_document> documents,
                 std::span<const std::uint32_t> slot_rows = {});
  // Blocks are ranked by `scorer`, which must outlive this. Not asked where every middle block is attended.
  sparse_context(runner& model, const policies::retrieval::options& options,
                 std::span<const policies::retrieval::context_document> documents, block_scorer& scorer,
                 std::span<const std::uint32_t> slot_rows = {});
  ~sparse_context() override;

  const policies::retrieval::block_plan& plan() const { return plan_; }

  // What a document's blocks are ranked by, from its keys: of all tokens, also of rows that are not kept.
  void add_document(std::uint32_t number, const encoded_document& document);

  // Takes the prompt that `whole` holds, document rows at their places: returns a cache with the rows that
  // are always attended and room for `answer_rows` more. The first blocks are chosen by the prompt's last
  // queries and fetched from `source`, which must outlive the session. Starts anew for every question.
  result<kv_cache> start(kv_cache& whole, std::uint32_t answer_rows, const recent_queries& prompt,
                         block_source& source);

  // From now on the prompt's rows are computed, with this as their observer: every forward pass of more than
  // one row sees the middle blocks out of `source`, which must outlive the session.
  void open(block_source& source);
  // The prompt is computed: chooses and fetches the first blocks. `unavailable` blocks of the prompt are an
  // error, and so is a pass of one row.
  result<void> start_decoding();

  // Around each decode step of the session.
  result<void> begin_step();
  result<void> end_step();

  const sparse_counters& counters() const { return counters_; }
  // Slots and representations; the resident cache has its own.
  std::size_t allocated_bytes() const;

  shown_parts sees(std::uint32_t) const override { return {.queries = true}; }
  bool wants_queries_ahead() const override;
  void queries_ahead(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;
  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override;
  std::span<const kernels::kv_run> more_rows(std::uint32_t layer, const kv_cache& cache,
                                             std::uint32_t kv_head) override;
  std::span<const kernels::prefill_kv_head> next_part(std::uint32_t layer, const kv_cache& cache) override;

 private:
  using query_group = policies::retrieval::query_group;
  class own_scorer;

  sparse_context(runner& model, const policies::retrieval::options& options,
                 std::span<const policies::retrieval::context_document> documents, block_scorer* scorer,
                 std::span<const std::uint32_t> slot_rows);

  void place_slots(std::span<const std::uint32_t> slot_rows);
  void reset(block_source& source);
  bool ranks() const { return plan_.winners > 0 && plan_.winners < plan_.middle; }
  void submit(std::span<const layer_group> asked);
  void collect(std::uint32_t layer);
  result<void> choose_first(const recent_queries& prompt);
  std::uint32_t part_blocks() const;
  std::uint32_t parts_of_a_layer() const;
  void begin_part(std::uint32_t part);
  void rank(std::uint32_t layer, const query_group& group);
  void choose(std::uint32_t layer);
  void finish_ahead();
  void drop_ahead();
  void begin_loads(std::uint32_t layer);
  void swap_layer(std::uint32_t layer);
  result<void> finish_loads();
  query_group group_of(const std::vector<float>& queries, std::uint32_t layer, std::uint32_t steps) const;
  void count_arrived();
  kv_cache resident_rows(kv_cache& whole, std::uint32_t answer_rows) const;
  std::span<slot_head> slot(std::uint32_t layer, std::uint32_t number);
  kernels::prefill_kv_head joined(std::uint32_t layer, std::uint32_t kv_head, std::uint32_t first_slot,
                                  std::uint32_t first_block, std::uint32_t blocks);

  runner& model_;
  policies::retrieval::options options_;
  std::vector<policies::retrieval::context_document> documents_;
  policies::retrieval::block_plan plan_;
  std::unique_ptr<own_scorer> own_;  // null: blocks are ranked elsewhere
  block_scorer* scorer_;
  kv_shape shape_;
  std::size_t query_width_;
  std::size_t row_bytes_;  // of K
  std::uint32_t slots_;

  block_source* source_ = nullptr;
  policies::retrieval::period_schedule schedule_;
  policies::retrieval::step_actions actions_;
  std::uint32_t step_in_period_ = 0;
  kernels::aligned_buffer slot_memory_;                    // [layer][kv_head][K, V][slot]
  std::vector<slot_head> slot_heads_;                      // [layer][slot][kv_head]
  std::vector<policies::retrieval::slot_table> tables_;    // by layer
  std::vector<std::vector<kernels::kv_run>> runs_;         // [layer][kv_head]
  std::vector<float> previous_queries_, current_queries_;  // [layer][step][query_head][head_dim]
  std::uint32_t previous_steps_ = 0;
  std::vector<float> scores_;  // [layer][block]
  std::vector<layer_group> asked_;
  std::vector<std::uint32_t> winners_;  // [layer][winner]
  std::optional<std::uint32_t> ahead_;  // this layer's blocks are being ranked while others compute
  std::vector<block_load> loads_;
  std::vector<std::span<const slot_head>> moving_;  // begun, not yet counted
  result<void> failed_;                             // in a callback of the forward pass

  // While the prompt is computed: parts of all layers, one behind the other, through two halves of the slots.
  bool prompt_ = false;
  recent_queries recent_;
  std::uint32_t begun_part_ = 0;  // the last one whose blocks are on their way or here
  std::uint32_t next_part_ = 0;   // to be attended
  std::vector<std::vector<std::int32_t>> part_positions_;  // [kv_head][row]
  std::vector<std::int32_t> part_segments_;
  std::vector<kernels::prefill_kv_head> part_heads_;
  sparse_counters counters_;
};

}  // namespace weft::engine
