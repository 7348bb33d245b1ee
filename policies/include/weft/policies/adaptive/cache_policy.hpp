// Online cache policies: which rows of a session stay in the decode cache while it generates. One interface
// for all of them; pure state machines, told what a step saw and asked what is to be removed.
//
// Heads are (layer, KV head), numbered layer * kv_heads + kv_head. Tokens are numbered by their position.
// Each head's resident rows lie in slots 0, 1, 2, ...: a new row takes the next slot; a removed row's slot is
// filled with the last row. Policy and cache carry out the same changes in the same order, so that they
// agree.
//
// A session: `kinds`, `hidden` and `new_rows` of the whole prompt, `observe` of the rows to be replayed,
// `prompt`: the cache then holds what is `resident`. For each step, layer by layer, `hidden`, `recalled`
// (rows that came back), `new_rows`, `attended`, `observe`; and `decide` behind the last one.
#pragma once

#include <weft/base/error.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace weft::policies::adaptive {

enum class method : std::uint8_t {
  full,            // everything
  sliding_window,  // the most recent rows
  streaming_llm,   // arXiv 2309.17453: the first rows and the most recent
  h2o,             // arXiv 2306.14048: half by attention received so far, half recent
  tova,            // arXiv 2401.06104: by the newest query's attention, all heads of a layer alike
  snapkv,          // arXiv 2404.14469: the prompt's rows once, by its last queries
  dynamic_kv,      // arXiv 2412.14838: as snapkv, layers share what there is
  rocket_kv,       // arXiv 2502.14051: a coarse choice once, and of that a few rows for each query
  quest,           // arXiv 2406.10774: all rows stay, a query reads the pages that it may need
  random,          // seeded noise and a short window: what a policy must beat
  oracle,          // knows the attention to come: what no policy can beat by choosing rows once
  atskv,           // predicted relevance under an adaptive threshold
};

std::string_view name_of(method chosen);
// `unsupported` for another name; the error lists what there is.
result<method> method_from_name(std::string_view name);
std::span<const method> all_methods();

struct session_shape {
  std::uint32_t layers = 0;
  std::uint32_t kv_heads = 0;
  std::uint32_t query_heads = 0;
  std::uint32_t head_dim = 0;
  std::uint32_t hidden_size = 0;

  std::size_t heads() const { return std::size_t{layers} * kv_heads; }
  std::uint32_t group() const { return query_heads / kv_heads; }

  friend bool operator==(const session_shape&, const session_shape&) = default;
};

// Which heads share one budget.
enum class budget_scope : std::uint8_t { head, layer, global };

std::string_view name_of(budget_scope scope);
result<budget_scope> budget_scope_from_name(std::string_view name);

inline constexpr std::uint32_t token_kinds = 5;  // special, digits, word's beginning, its rest, other
inline constexpr std::uint32_t all_rows = std::numeric_limits<std::uint32_t>::max();

// What a policy wants to see.
struct policy_needs {
  std::uint32_t prompt_window = 0;  // column sums of so many of the prompt's last query rows; or `all_rows`
  std::uint32_t prompt_replay = 0;  // so many of the prompt's last rows one by one, as steps
  bool weights = false;             // attention of every step
  bool keys = false;                // keys and values of new rows
  bool hidden = false;              // hidden states of new rows
  bool attends = false;             // chooses among the resident rows for each query
  bool recalls = false;             // takes rows back from a passive store
  // Of the passive store's rows: their keys in so many bits for each channel; 0: bounds of whole pages.
  std::uint32_t sketch_bits = 0;
};

// K (rotated) and V of new rows of one head: [row][head_dim].
struct row_values {
  std::span<const float> keys;
  std::span<const float> values;
};

// What the prompt showed. sums: [layer][query_head][token], attention that each token got from the window's
// query rows; empty where no window was asked for.
struct prompt_view {
  std::uint32_t tokens = 0;
  std::span<const float> sums;
};

// Attention of one query row over a head's resident rows, in the order of their slots: [group][rows].
struct head_weights {
  std::span<const float> weights;
};

struct removed_row {
  std::uint32_t head = 0;
  std::uint32_t slot = 0;
  std::uint32_t token = 0;
  bool stored = false;  // lies in the passive store already

  friend bool operator==(const removed_row&, const removed_row&) = default;
};

// A page of rows in the passive store, numbered within its head.
struct passive_page {
  std::uint32_t head = 0;
  std::uint32_t page = 0;

  friend bool operator==(const passive_page&, const passive_page&) = default;
};

// What one head's passive rows could get, in natural logarithms: [group][rows] logits, estimated from
// sketches, rows in the order in which they were stored; or [group][pages] upper bounds. [group] ln of the
// sum of exponentials over the resident rows.
struct passive_logits {
  std::span<const float> logits;
  std::size_t stride = 0;  // from one line of the group to the next
  std::span<const float> log_sums;
};

class cache_policy {
 public:
  virtual ~cache_policy() = default;

  virtual policy_needs needs() const = 0;

  // Classes of tokens from `first_token` on, below `token_kinds`.
  virtual void kinds(std::uint32_t /*first_token*/, std::span<const std::uint8_t> /*kinds*/) {}
  // Hidden states (after RMSNorm) that a layer projects, of the tokens from `first_token` on: [row][hidden].
  virtual void hidden(std::uint32_t /*layer*/, std::uint32_t /*first_token*/, std::uint32_t /*rows*/,
                      const float* /*normed*/) {}
  // Rows that enter a head; they take the next slots.
  virtual void new_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows,
                        const row_values& values) = 0;
  // Chooses among the prompt's rows.
  virtual void prompt(const prompt_view& /*seen*/) {}

  // Slots that the layer's query reads, ascending, by KV head. queries: [query_head][head_dim]. Only where
  // `needs().attends`.
  virtual void attended(std::uint32_t /*layer*/, std::span<const float> /*queries*/,
                        std::span<std::vector<std::uint32_t>> /*slots*/) {}
  // Whether the running step is to show `observe` the layer, where `needs().weights`.
  virtual bool watches(std::uint32_t /*layer*/) const { return true; }
  // By KV head of the layer.
  virtual void observe(std::uint32_t /*layer*/, std::span<const head_weights> /*seen*/) {}

  // Rows to be removed now, in this order. Afterwards no budget is exceeded. Valid until the next call.
  virtual std::span<const removed_row> decide() = 0;

  // Tokens of a head by slot.
  virtual std::span<const std::uint32_t> resident(std::uint32_t head) const = 0;

  // Of a passive store, where `needs().recalls`. Removed rows are stored in pages; the pages of a head are
  // numbered in the order in which they are stored. Behind the prompt: its rows that go there, in this order.
  virtual std::span<const std::uint32_t> leaving(std::uint32_t /*head*/) const { return {}; }
  virtual void stored(std::uint32_t /*head*/, std::span<const std::uint32_t> /*tokens*/) {}
  // Whether the running step is to estimate the layer's queries before they are computed, so that `recall`
  // can be asked early; where not, it is asked with the queries themselves.
  virtual bool looks_ahead(std::uint32_t /*layer*/) const { return true; }
  // Pages of a layer with rows that the coming query should find resident. known: by KV head.
  virtual std::span<const passive_page> recall(std::uint32_t /*layer*/,
                                               std::span<const passive_logits> /*known*/) {
    return {};
  }
  // A page that was asked for came: its rows that are wanted take the next slots. Their tokens, in order.
  virtual std::span<const std::uint32_t> recalled(const passive_page& /*page*/) { return {}; }
  // A page that cannot be had any more.
  virtual void lost(const passive_page& /*page*/) {}

  // Memory of the policy's own books.
  virtual std::size_t state_bytes() const = 0;
};

struct baseline_options {
  method chosen = method::full;
  std::uint32_t rows = 256;  // of each head; heads of one scope share what they have together
  budget_scope scope = budget_scope::head;
  std::uint32_t sinks = 4;           // streaming_llm
  std::uint32_t window = 0;          // 0: the method's own (snapkv, rocket_kv 32, dynamic_kv 8, random 32)
  std::uint32_t kernel = 0;          // 0: the method's own (snapkv, dynamic_kv 7, rocket_kv 63)
  std::uint32_t page_tokens = 16;    // quest
  std::uint32_t every_layers = 4;    // dynamic_kv
  std::uint32_t temporary_cap = 10;  // dynamic_kv: times the budget
  std::uint64_t seed = 0;            // random
  // oracle: attention to come, [head][token].
  std::span<const float> future = {};
};

// `invalid_argument` names the option that makes no sense. Every method but atskv.
result<std::unique_ptr<cache_policy>> make_baseline(const session_shape& shape,
                                                    const baseline_options& options);

}  // namespace weft::policies::adaptive
