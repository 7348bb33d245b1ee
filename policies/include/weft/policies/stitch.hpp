// How cached documents become one prompt: where each lands, which rows are loaded from the pool and which the
// engine computes.
//
// Prompt: opening, document 1 .. document N, question. Segment of document i (from 0) is i + 1, of everything
// else 0. A row attends to rows at or before its position that have its segment; segment 0 attends to all of
// them. So a loaded document's keys and values are a function of its tokens alone.
//
// The plan is pure data for one executor: rotate and scatter what is loaded to its start position, then
// compute `rows` in one forward pass, each overwriting its slot. A policy that inserts tokens or computes
// some rows of a loaded document differs only in the rows it lists.
#pragma once

#include <weft/base/error.hpp>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::policies {

enum class stitch_policy : std::uint8_t {
  none,  // documents as they are cached; opening and question are computed
  full,  // nothing is reused: an ordinary causal prefill of the whole prompt
};

std::string_view name_of(stitch_policy policy);

// "none", "full". Anything else: `unsupported`, and the error lists what is supported.
result<stitch_policy> stitch_policy_from_name(std::string_view name);

struct prompt_document {
  std::span<const std::int32_t> tokens;
  // False: its KV is in no reach, so `none` computes it in its own segment, which gives the same rows.
  bool stored = true;
};

struct prompt_parts {
  std::span<const std::int32_t> opening;  // may be empty
  std::span<const prompt_document> documents;
  std::span<const std::int32_t> question;
};

enum class document_source : std::uint8_t { load, compute };

struct placed_document {
  std::int32_t start_position = 0;  // of its first token in the prompt
  std::int32_t segment = 0;         // what its rows carry in the cache
  std::uint32_t tokens = 0;
  document_source source = document_source::load;
};

enum class row_origin : std::uint8_t { opening, document, question };

struct planned_row {
  std::int32_t token = 0;
  std::int32_t position = 0;
  std::int32_t segment = 0;
  row_origin origin = row_origin::question;

  friend bool operator==(const planned_row&, const planned_row&) = default;
};

struct stitch_plan {
  std::vector<placed_document> documents;  // in the order of the prompt
  std::vector<planned_row> rows;           // to compute, by ascending position, each position at most once
  std::uint32_t prompt_tokens = 0;  // loaded and computed: rows of the cache when the plan is carried out
  std::uint32_t document_tokens = 0;
  std::uint32_t recomputed_rows = 0;  // rows of documents among `rows`
  std::uint32_t question_rows = 0;    // the last ones of `rows`; the very last gives the first answer token

  // Of all document rows; 0 where there are none.
  double recomputed_share() const;
};

// Start of document i = opening + everything inserted and all documents before it. `invalid_argument` for an
// empty question, an empty document or a prompt whose positions do not fit into 31 bits.
result<stitch_plan> plan_stitch(stitch_policy policy, const prompt_parts& parts);

}  // namespace weft::policies
