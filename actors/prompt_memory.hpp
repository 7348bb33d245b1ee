// The KV rows of a node's sessions: what each has to itself, and what of its prompt others read as well.
//
// A session's cache stands behind rows that are complete and that nobody changes any more, one behind the
// other: those of an opening; those of documents, which its first session loads; those that a plan computes
// among and behind documents. Each of them is known by a key that names all that it was made of, and stays
// for the next prompt that begins alike as long as there is memory for it.
#pragma once

#include <weft/actors/local_messages.hpp>
#include <weft/actors/work.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/runner.hpp>
#include <weft/engine/shared_bases.hpp>

#include "cache_charge.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::actors {

// What of a session's prompt is there, and what it is going to add to that for others.
struct prompt_rows {
  std::shared_ptr<const engine::kv_cache> behind;  // complete; null: nothing is there
  // That this session fills, in front of its own: a cache for each codec, each behind the one before.
  std::vector<std::shared_ptr<engine::kv_cache>> loading;
  std::uint32_t next_row = 0;     // of the plan's: those before it are computed
  std::uint32_t reused_rows = 0;  // of those, the ones that others had computed
  cache_charge own, prefix;       // memory of its own, and of the rows that it computes for others
};

class prompt_memory {
 public:
  prompt_memory(std::shared_ptr<engine::runner> model, const engine_memory& limits);

  // Room for a session without others. What stays for the next question goes first; `out_of_space` says what
  // is free.
  result<cache_charge> take(std::uint64_t bytes);
  // Of so many rows in each (layer, KV head).
  std::uint64_t bytes_of(std::span<const std::uint32_t> capacity_rows,
                         kernels::row_codec coding = kernels::row_codec::raw) const;

  // Whether nobody has to load the order's documents.
  bool has_documents(const session_order& order);
  // As much of the order's prompt as is there, with memory for the rest. An opening that is not there is
  // computed here.
  result<prompt_rows> open(const session_order& order);
  // Computes what is still to be shared in front of the question. From then on `behind` is complete.
  result<void> complete(prompt_rows& rows, const session_order& order);

  // Whenever a session ended.
  void tidy();

 private:
  result<void> make_room(std::uint64_t bytes);
  engine::kv_shape shape_in(kernels::row_codec coding) const;
  std::uint64_t bytes_of(const computed_rows& rows) const;
  // Charged for as long as anybody refers to them.
  std::shared_ptr<engine::kv_cache> shared_rows(cache_charge charge,
                                                std::shared_ptr<const engine::kv_cache> before,
                                                std::span<const std::uint32_t> capacity_rows,
                                                kernels::row_codec coding = kernels::row_codec::raw);
  std::vector<std::uint32_t> capacity_of(const computed_rows& rows) const;
  result<void> add_opening(prompt_rows& rows, const session_order& order);
  result<void> add_prefix(prompt_rows& rows, const session_order& order);
  result<void> fill_base(prompt_rows& rows, const session_order& order);
  result<prompt_rows> with_room(prompt_rows rows, std::uint64_t own_bytes, std::uint64_t prefix_bytes);

  std::shared_ptr<engine::runner> model_;
  std::uint64_t limit_bytes_;  // 0: none
  std::shared_ptr<std::uint64_t> charged_bytes_ = std::make_shared<std::uint64_t>(0);
  engine::shared_bases openings_;
  engine::shared_bases bases_;  // documents, and what is computed among and behind them
};

}  // namespace weft::actors
