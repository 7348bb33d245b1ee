// How cached documents become one prompt: where each lands, which rows are loaded from the pool and which the
// engine computes.
//
// Prompt: opening, texts 0, document 1, inserted 1, texts 1 .. document N, inserted N, texts N, question.
// Segment of document i (from 0) is i + 1, of everything else 0. A row attends to rows at or before its
// position that have its segment; segment 0 attends to all of them. So a loaded document's keys and values
// are a function of its tokens alone.
//
// The plan is pure data for one executor: rotate and scatter what is loaded to its start position, then
// compute `rows` in one forward pass, each overwriting its slot. Policies differ in the rows they list, in
// what they insert, and in a selector that lets only some document rows go on behind a layer.
#pragma once

#include <weft/base/error.hpp>
#include <weft/policies/stitch_policy.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace weft::policies {

struct prompt_document {
  std::span<const std::int32_t> tokens;
  // False: its KV is in no reach and is computed first, in its own segment, which gives the same rows.
  bool stored = true;
};

// What the keys of loaded documents are rotated to.
enum class position_mode : std::uint8_t {
  prompt,   // where they stand in the prompt
  document  // where they stood in their own document: a control, which a prompt must not use
};

struct prompt_parts {
  std::span<const std::int32_t> opening;  // may be empty
  std::span<const prompt_document> documents;
  std::span<const std::int32_t> question;
  // Computed tokens that belong to each document and stand right behind it, such as links: none at all, or
  // one list for every document.
  std::span<const std::vector<std::int32_t>> inserted = {};
  // Plain text, computed where it stands: in front of each document and, as the last, behind all of them.
  // None at all, or a list for each of these places, which may be empty.
  std::span<const std::vector<std::int32_t>> texts = {};
  position_mode positions = position_mode::prompt;
};

enum class document_source : std::uint8_t {
  load,    // out of the pool
  encode,  // computed by itself, then placed as if it were loaded
  compute  // every row of it is among the plan's rows
};

struct placed_document {
  std::int32_t start_position = 0;    // of its first token in the prompt
  std::int32_t rotated_position = 0;  // what the key of its first token is rotated to
  std::int32_t segment = 0;           // what its rows carry in the cache
  std::uint32_t tokens = 0;
  document_source source = document_source::load;
  std::vector<std::int32_t> encode_tokens = {};  // of a document that is to be encoded

  std::int32_t end_position() const { return start_position + static_cast<std::int32_t>(tokens); }
};

enum class row_origin : std::uint8_t { opening, document, inserted, question, text };

struct planned_row {
  std::int32_t token = 0;
  std::int32_t position = 0;
  std::int32_t segment = 0;
  row_origin origin = row_origin::question;

  friend bool operator==(const planned_row&, const planned_row&) = default;
};

// Layers before `layer` and that layer's K and V are computed for all planned rows. Behind that, document
// rows go on only if they are among the `rows` of them whose values changed most: by |V new - V cached|^2
// over the layer's heads, descending, then by position.
struct row_selector {
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;

  friend bool operator==(const row_selector&, const row_selector&) = default;
};

struct stitch_plan {
  std::vector<placed_document> documents;  // in the order of the prompt
  std::vector<planned_row> rows;           // to compute, by ascending position, each position at most once
  std::optional<row_selector> selector;
  std::uint32_t prompt_tokens = 0;  // loaded and computed: rows of the cache when the plan is carried out
  std::uint32_t document_tokens = 0;
  std::uint32_t recomputed_rows = 0;  // rows of documents that are computed in all layers
  std::uint32_t question_rows = 0;    // the last ones of `rows`; the very last gives the first answer token

  std::uint32_t rows_before_question() const {
    return static_cast<std::uint32_t>(rows.size()) - question_rows;
  }
  bool loads_any() const;
  // Of all rows of documents, mean over the layers of a model; 0 where there are none.
  double recomputed_share(std::uint32_t layers) const;
};

// Start of document i = opening + all documents, insertions and texts before it. `invalid_argument` for an
// empty question, an empty document, insertions that do not fit the policy or the documents, texts that do
// not fit the documents, and a prompt whose positions do not fit into 31 bits.
result<stitch_plan> plan_stitch(const stitch_policy& policy, const prompt_parts& parts);

}  // namespace weft::policies
