// One question on its way to its answer, as the parts of the decode actor share it.
#pragma once

#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/remote_context.hpp>
#include <weft/actors/work.hpp>
#include <weft/policies/stitch.hpp>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "../manifests.hpp"
#include "sparse_plan.hpp"

#include <chrono>
#include <memory>
#include <optional>
#include <set>
#include <vector>

namespace weft::actors::decoding {

struct decode_state {
  static inline const char* name = "decode";

  work_parts parts;
  duration read_deadline{};
  std::chrono::milliseconds retrieval_patience{};
  manifest_cache manifests;
  cluster_ptr now;
  std::uint64_t next_context = 1;
  decode_report report;
  std::multiset<id128> reading;  // first blocks of documents that answers under way fetch from
};

using self_pointer = local_decode_actor::stateful_pointer<decode_state>;

// One question on its way to its answer.
struct asking {
  question asked;
  answer_listener listener;
  policies::stitch_policy policy{};
  std::vector<engine::token_id> opening;
  std::vector<engine::token_id> question_tokens;
  std::vector<std::vector<engine::token_id>> links;  // by document; empty: none
  std::vector<std::vector<engine::token_id>> texts;  // in front of each document, and behind all; empty: none
  std::vector<manifest_ptr> documents;
  std::vector<std::uint32_t> bands;  // by document: how many of them are loaded
  std::vector<bool> stored;          // by document: its blocks came out of the pool
  std::shared_ptr<const policies::stitch_plan> plan;
  std::uint64_t session = 0;
  bool on_device = false;  // the documents' rows are loaded for passes alone
  std::size_t next_document = 0;
  answer result;
  std::optional<row_judging> judging;  // none: all rows stay
  time_point started;
  std::uint64_t encode_microseconds = 0;
  caf::typed_response_promise<answer> promise;

  // While the middle blocks of the prompt stay in the pool.
  std::optional<policies::retrieval::options> retrieval;  // none: dense
  remote_context_ptr remote;
  context_actor context;
  std::vector<resident_run> runs;
  std::size_t next_run = 0;
  std::uint64_t retrieval_nodes = 0;
  std::vector<id128> reading;  // as in the state: by document
  bool looked_again = false;   // for documents whose index was gone
};
using asking_ptr = std::shared_ptr<asking>;

// -- in decode.cpp --

// Ends the session and the promise.
void give_up(self_pointer self, const asking_ptr& job, const error& why);
void end_session(self_pointer self, asking& job);
// Of the bands that are wanted of one of its documents.
std::uint64_t bytes_of(const asking& job, std::size_t document);
// What is loaded next, or the answer, follows by itself.
void open_engine(self_pointer self, const asking_ptr& job, session_order order);
void generate(self_pointer self, const asking_ptr& job);
// With the whole prompt in the session's cache, where its blocks cannot be had one by one.
void answer_densely(self_pointer self, const asking_ptr& job);
// The manifests of its documents, then a session.
void read_named(self_pointer self, const asking_ptr& job);

// -- in decode_sparse.cpp --

// A session whose middle blocks stay in the pool.
void open_sparsely(self_pointer self, const asking_ptr& job);
// The rows of such a session that are always attended, then the answer.
void load_next_runs(self_pointer self, const asking_ptr& job);

inline auto on_error(self_pointer self, const asking_ptr& job, const char* doing) {
  return [self, job, doing](const caf::error& e) { give_up(self, job, from_caf(e, doing)); };
}

inline std::uint64_t microseconds(duration passed) {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
}

}  // namespace weft::actors::decoding
