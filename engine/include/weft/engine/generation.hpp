// Sessions that generate together: one forward pass gives each of them its next token.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/sampler.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

class pruned_decoding;
class sparse_context;

using session_id = std::uint64_t;

struct generation_options {
  sampling sampled;
  std::vector<token_id> stop_tokens;
  std::uint32_t max_tokens = 256;  // at least 1
};

enum class finish : std::uint8_t { running, stop_token, max_tokens, cache_full };

struct generated_token {
  session_id session = 0;
  token_id token = 0;  // a stop token too, which is not part of the answer
  finish state = finish::running;
};

// No threads of its own: whoever holds it calls `step` for as long as `active()` sessions run. A session's
// tokens do not depend on the others. One call at a time, and none while its runner is busy elsewhere.
class decode_batch {
 public:
  explicit decode_batch(runner& model);

  // A session whose prompt lies in `cache` and ends before `next_position`; `logits` are those of its last
  // row. Its first token is chosen here. Sessions may be added and removed between steps.
  // With a `sparse` context, whose resident rows `cache` holds and which must outlive the session, the
  // session decodes sparsely; with `pruning`, which must as well, rows leave the cache while it decodes.
  // `invalid_argument` for a session id that is in use or wrong options.
  result<generated_token> add(session_id session, kv_cache cache, std::int32_t next_position,
                              std::span<const float> logits, const generation_options& options,
                              sparse_context* sparse = nullptr, pruned_decoding* pruning = nullptr);

  // Ends a session, running or finished, and returns its cache: the prompt's rows and those of the tokens
  // that were computed. `not_found` if there is none.
  result<kv_cache> remove(session_id session);

  // The next token of every running session, in the order in which they were added; valid until the next
  // call. Finished sessions stay, at no cost but their memory, until they are removed.
  result<std::span<const generated_token>> step();

  std::size_t active() const;
  std::size_t sessions() const { return sessions_.size(); }

 private:
  struct session {
    session_id id;
    kv_cache cache;
    sampler choose;
    std::vector<token_id> stop_tokens;
    std::uint32_t tokens_left;
    std::int32_t next_position;
    token_id last_token;
    sparse_context* sparse = nullptr;    // null: dense
    pruned_decoding* pruning = nullptr;  // null: all rows stay
    finish state = finish::running;
  };
  class session_rows;

  static void accept(session& s, token_id token);

  runner& model_;
  std::vector<session> sessions_;
  row_batch rows_;
  std::vector<kv_cache*> caches_;
  std::vector<session*> stepping_;
  std::vector<float> logits_;
  std::vector<generated_token> tokens_;
};

}  // namespace weft::engine
