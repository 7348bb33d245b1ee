#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/retrieval.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/policies/keys.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "document_shelf.hpp"
#include "float_bytes.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace weft::actors {

namespace {

namespace retrieval = policies::retrieval;

constexpr std::size_t shelf_bytes = std::size_t{256} << 20;

using session_key = std::pair<machines::node_ref, std::uint64_t>;

struct ranked_session {
  retrieval_session what;
  std::unique_ptr<retrieval::block_ranker> ranker;
};

// Documents that are being ranked: those whose keys are not at hand come out of the pool first.
struct document_job {
  document_queries asked;
  std::vector<std::pair<id128, std::uint64_t>> missing;  // and how large their keys are
  caf::typed_response_promise<document_products> promise;
};
using document_job_ptr = std::shared_ptr<document_job>;

// A session whose blocks are being read.
struct opening {
  retrieval_session what;
  retrieval::options how;
  std::vector<sparse_index> documents;                      // by document
  std::map<std::uint32_t, std::vector<std::byte>> reduced;  // by number of the block
  std::map<std::uint32_t, std::vector<std::byte>> keys;     // [layer][kv_head][token][head_dim]
  std::size_t next = 0;                                     // of what.blocks
  std::set<std::uint32_t> whole;                            // numbers whose reduced keys are gone
  caf::typed_response_promise<retrieval_held> promise;
};
using opening_ptr = std::shared_ptr<opening>;

struct retrieval_state {
  static inline const char* name = "retrieval";

  retrieval_parts parts;
  std::map<session_key, ranked_session> sessions;
  kernels::thread_pool threads{1};  // the actor's own
  retrieval::shard_scores scores;
  document_shelf shelf{shelf_bytes};
  retrieval_report counters;
};

using self_pointer = local_retrieval_actor::stateful_pointer<retrieval_state>;

result<void> check(const retrieval_session& what) {
  const auto wrong = [](const char* which) {
    return fail(errc::invalid_argument, std::string{"a retrieval session with wrong "} + which);
  };
  if (what.policy > static_cast<std::uint8_t>(retrieval::policy::kvstar_ahead) ||
      what.policy == static_cast<std::uint8_t>(retrieval::policy::full))
    return wrong("policy");
  if (what.scale > static_cast<std::uint8_t>(retrieval::score_scale::kept_dim)) return wrong("scale");
  if (what.layers == 0 || what.layers > 1024 || what.kv_heads == 0 || what.kv_heads > 1024 ||
      what.query_heads == 0 || what.query_heads > 65536 || what.query_heads % what.kv_heads != 0 ||
      what.head_dim < 2 || what.head_dim > 4096 || what.head_dim % 2 != 0 ||
      what.dtype > static_cast<std::uint8_t>(kernels::dtype::bf16) || what.block_tokens == 0 ||
      what.block_tokens > 4096)
    return wrong("shape");
  if (what.frequencies.size() != what.head_dim / 2 * sizeof(float)) return wrong("frequencies");
  const retrieval_block* before = nullptr;
  for (const auto& block : what.blocks) {
    if (block.document >= what.documents.size() || (before != nullptr && block.number <= before->number) ||
        (before != nullptr && block.document < before->document) || block.number > (1U << 21))
      return wrong("blocks");
    before = &block;
  }
  return {};
}

std::size_t head_bytes(const retrieval_session& what) {
  return std::size_t{what.block_tokens} * what.head_dim *
         kernels::size_bytes(static_cast<kernels::dtype>(what.dtype));
}

retrieval::ranked_context context_of(const opening& job) {
  const auto& what = job.what;
  retrieval::ranked_context context{.shape = {.layers = what.layers,
                                              .query_heads = what.query_heads,
                                              .kv_heads = what.kv_heads,
                                              .head_dim = what.head_dim,
                                              .type = static_cast<kernels::dtype>(what.dtype)},
                                    .documents = {},
                                    .middle = {},
                                    .held = {},
                                    .frequencies = floats_of(what.frequencies)};
  for (const auto& document : what.documents)
    context.documents.push_back({document.start_position, document.tokens});
  for (const auto& block : what.blocks) {
    context.middle.resize(block.number);  // those in between are others'
    context.middle.push_back(
        {block.document, block.first_token,
         what.documents[block.document].start_position + static_cast<std::int32_t>(block.first_token)});
    context.held.push_back(block.number);
  }
  return context;
}

void add_reduced(const opening& job, const retrieval_block& block, retrieval::block_ranker& ranker) {
  const sparse_index& index = job.documents[block.document];
  const auto& bytes = job.reduced.at(block.number);
  std::vector<float> vectors(std::size_t{index.merged()} * index.channels);
  const std::size_t stride = vectors.size() * kernels::size_bytes(index.type);
  for (std::uint32_t layer = 0; layer < index.layers; ++layer)
    for (std::uint32_t head = 0; head < index.kv_heads; ++head) {
      kernels::to_f32(index.type, bytes.data() + (std::size_t{layer} * index.kv_heads + head) * stride,
                      vectors.data(), vectors.size());
      ranker.add_reduced(layer, head, block.number, index.channels_of(layer, head), vectors);
    }
}

void add_keys(const opening& job, const retrieval_block& block, retrieval::block_ranker& ranker) {
  const auto& what = job.what;
  const auto& bytes = job.keys.at(block.number);
  std::vector<float> keys(std::size_t{what.block_tokens} * what.head_dim);
  for (std::uint32_t layer = 0; layer < what.layers; ++layer)
    for (std::uint32_t head = 0; head < what.kv_heads; ++head) {
      kernels::to_f32(static_cast<kernels::dtype>(what.dtype),
                      bytes.data() + (std::size_t{layer} * what.kv_heads + head) * head_bytes(what),
                      keys.data(), keys.size());
      ranker.add_block(layer, head, block.number, keys);
    }
}

bool is_known(const opening& job, const retrieval_block& block) {
  return job.reduced.contains(block.number) || job.keys.contains(block.number);
}

// What could not be read is not ranked here.
void finish(self_pointer self, const opening_ptr& job) {
  std::erase_if(job->what.blocks, [&](const retrieval_block& block) { return !is_known(*job, block); });
  ranked_session session{.what = job->what, .ranker = retrieval::make_ranker(job->how, context_of(*job))};
  retrieval_held held;
  for (const auto& block : job->what.blocks) {
    if (job->reduced.contains(block.number))
      add_reduced(*job, block, *session.ranker);
    else
      add_keys(*job, block, *session.ranker);
    held.blocks.push_back(block.number);
  }
  ++self->state.counters.sessions;
  self->state.sessions.insert_or_assign(session_key{job->what.reader, job->what.number}, std::move(session));
  job->promise.deliver(std::move(held));
}

void take_reduced(opening& job, const retrieval_block& block, const read_block& read) {
  const sparse_index& index = job.documents[block.document];
  const auto parsed = block::view::parse(read.bytes->bytes());
  if (!parsed || parsed->layout_tag() != reduced_keys_tag ||
      parsed->payload().size() != index.reduced_bytes()) {
    job.whole.insert(block.number);
    return;
  }
  job.reduced[block.number].assign(parsed->payload().begin(), parsed->payload().end());
}

// Of a block itself: what its policy ranks by.
void take_block(opening& job, const retrieval_block& block, const read_block& read) {
  const auto& what = job.what;
  const auto parsed = block::view::parse(read.bytes->bytes());
  if (!parsed || parsed->is_opaque() || parsed->dimensions().tokens != what.block_tokens ||
      parsed->dimensions().layers != what.layers || parsed->dimensions().kv_heads != what.kv_heads ||
      parsed->dimensions().head_dim != what.head_dim)
    return;
  if (retrieval::ranks_by_reduced_keys(job.how.chosen)) {
    if (auto reduced = reduced_keys(job.documents[block.document], *parsed))
      job.reduced[block.number] = std::move(*reduced);
    return;
  }
  const auto type = static_cast<kernels::dtype>(what.dtype);
  std::vector<float> keys(std::size_t{what.block_tokens} * what.head_dim);
  std::vector<std::byte> all(std::size_t{what.layers} * what.kv_heads * head_bytes(what));
  for (std::uint32_t layer = 0; layer < what.layers; ++layer)
    for (std::uint32_t head = 0; head < what.kv_heads; ++head) {
      if (!keys_of(*parsed, layer, head, keys)) return;
      kernels::from_f32(type, keys.data(),
                        all.data() + (std::size_t{layer} * what.kv_heads + head) * head_bytes(what),
                        keys.size());
    }
  job.keys[block.number] = std::move(all);
}

void read_on(self_pointer self, const opening_ptr& job);

// As many blocks at once as fit into a quarter of staging; at least one.
std::size_t wave_blocks(const retrieval_state& state, const retrieval_session& what) {
  const std::size_t bytes = 2 * std::size_t{what.layers} * what.kv_heads * head_bytes(what) + 8192;
  return std::max<std::size_t>(1, state.parts.room->capacity_bytes() / 4 / bytes);
}

template <class KeyOf, class Take>
void read_blocks(self_pointer self, const opening_ptr& job, std::vector<retrieval_block> blocks, KeyOf key_of,
                 Take take) {
  read_order order{
      .keys = {}, .fingerprint = job->what.fingerprint, .timeout = self->state.parts.read_timeout};
  for (const auto& block : blocks)
    order.keys.push_back(key_of(block.key));
  self->request(self->state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job, blocks = std::move(blocks), take](const read_outcome& read) {
            for (std::size_t i = 0; i < blocks.size() && i < read->blocks.size(); ++i)
              take(*job, blocks[i], read->blocks[i]);
            read_on(self, job);
          },
          [self, job](const caf::error&) { read_on(self, job); });
}

// Blocks whose reduced keys are gone are read themselves.
void read_whole(self_pointer self, const opening_ptr& job) {
  std::vector<retrieval_block> wave;
  const auto most = wave_blocks(self->state, job->what);
  for (const auto& block : job->what.blocks)
    if (wave.size() < most && job->whole.erase(block.number) > 0) wave.push_back(block);
  if (wave.empty()) return finish(self, job);
  read_blocks(
      self, job, std::move(wave), [](const id128& key) { return key; },
      [](opening& o, const retrieval_block& block, const read_block& read) {
        if (read.outcome) take_block(o, block, read);
      });
}

void read_on(self_pointer self, const opening_ptr& job) {
  const auto& blocks = job->what.blocks;
  const auto last = std::min(blocks.size(), job->next + wave_blocks(self->state, job->what));
  std::vector<retrieval_block> wave{blocks.begin() + static_cast<std::ptrdiff_t>(job->next),
                                    blocks.begin() + static_cast<std::ptrdiff_t>(last)};
  job->next = last;
  if (!retrieval::ranks_by_reduced_keys(job->how.chosen)) {
    for (const auto& block : wave)
      job->whole.insert(block.number);
    return read_whole(self, job);
  }
  if (wave.empty()) return read_whole(self, job);
  read_blocks(self, job, std::move(wave), policies::reduced_keys_key,
              [](opening& o, const retrieval_block& block, const read_block& read) {
                if (read.outcome)
                  take_reduced(o, block, read);
                else
                  o.whole.insert(block.number);
              });
}

result<void> take_index(opening& job, const read_block& read) {
  if (!read.outcome) return read.outcome;
  const auto parsed = block::view::parse(read.bytes->bytes());
  if (!parsed) return tl::make_unexpected(parsed.error());
  auto index = parsed->layout_tag() == sparse_index_tag ? sparse_index_from_bytes(parsed->payload())
                                                        : fail(errc::corrupt, "not a sparse index");
  if (!index) return tl::make_unexpected(index.error());
  const auto& what = job.what;
  if (index->layers != what.layers || index->kv_heads != what.kv_heads || index->head_dim != what.head_dim ||
      index->block_tokens != what.block_tokens || index->type != static_cast<kernels::dtype>(what.dtype))
    return fail(errc::invalid_argument, "a document's index for sparse decoding is of another model");
  job.documents.push_back(std::move(*index));
  return {};
}

caf::result<retrieval_held> open(self_pointer self, const retrieval_session& what) {
  if (const auto good = check(what); !good) return to_caf(good.error());
  auto job = std::make_shared<opening>();
  job->what = what;
  job->how = {.chosen = static_cast<retrieval::policy>(what.policy),
              .block_tokens = what.block_tokens,
              .dim_ratio = reduced_dim_ratio,
              .token_merge = std::min(reduced_token_merge, what.block_tokens),
              .scale = static_cast<retrieval::score_scale>(what.scale)};
  job->promise = self->make_response_promise<retrieval_held>();
  auto promise = job->promise;
  read_order order{.keys = {}, .fingerprint = what.fingerprint, .timeout = self->state.parts.read_timeout};
  for (const auto& document : what.documents)
    order.keys.push_back(policies::sparse_index_key(document.first_block));
  self->request(self->state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job](const read_outcome& read) {
            for (const auto& block : read->blocks)
              if (const auto taken = take_index(*job, block); !taken) {
                job->promise.deliver(to_caf(taken.error()));
                return;
              }
            read_on(self, job);
          },
          [job](const caf::error& e) { job->promise.deliver(e); });
  return promise;
}

result<retrieval_scores> rank(retrieval_state& state, const retrieval_queries& asked) {
  const auto found = state.sessions.find({asked.reader, asked.number});
  if (found == state.sessions.end())
    return fail(errc::not_found, "there is no such retrieval session; open it");
  const auto& what = found->second.what;
  const std::size_t width = std::size_t{what.query_heads} * what.head_dim;
  const auto queries = floats_of(asked.queries);
  if (asked.steps == 0 || queries.size() != asked.layers.size() * asked.steps * width ||
      std::ranges::any_of(asked.layers, [&](std::uint32_t layer) { return layer >= what.layers; }))
    return fail(errc::invalid_argument, "queries of another shape than their retrieval session's");
  retrieval_scores scores;
  for (std::size_t i = 0; i < asked.layers.size(); ++i) {
    found->second.ranker->score(asked.layers[i],
                                {queries.data() + i * asked.steps * width, asked.steps, width}, state.scores,
                                state.threads);
    scores.sums.push_back(bytes_of(std::span<const float>(state.scores.sums)));
    scores.totals.push_back(bytes_of_totals(state.scores.totals));
    ++state.counters.rankings;
  }
  return scores;
}

// -- whole documents --

bool fits(const document_queries& asked, const stored_document_keys& stored) {
  const auto& shape = stored.keys.shape();
  return stored.layer == asked.layer && shape.kv_heads == asked.kv_heads && shape.head_dim == asked.head_dim;
}

result<void> check(const document_queries& asked) {
  const auto wrong = [](const char* which) {
    return fail(errc::invalid_argument, std::string{"a ranking of documents with wrong "} + which);
  };
  if (asked.kv_heads == 0 || asked.kv_heads > 1024 || asked.query_heads == 0 || asked.query_heads > 65536 ||
      asked.query_heads % asked.kv_heads != 0 || asked.head_dim < 2 || asked.head_dim > 4096)
    return wrong("shape");
  const std::size_t row_bytes = sizeof(float) * asked.query_heads * asked.head_dim;
  if (asked.queries.empty() || asked.queries.size() % row_bytes != 0) return wrong("queries");
  const std::size_t products = asked.queries.size() / asked.head_dim / sizeof(float);
  if (asked.documents.size() > most_documents_ranked_at_once(products)) return wrong("number of documents");
  return {};
}

void rank_documents(self_pointer self, document_job& job) {
  auto& state = self->state;
  const auto& asked = job.asked;
  const auto queries = floats_of(asked.queries);
  document_products products{.known = std::vector<std::uint8_t>(asked.documents.size()), .best = {}};
  std::vector<float> best(queries.size() / asked.head_dim);
  for (std::size_t i = 0; i < asked.documents.size(); ++i) {
    const auto stored = state.shelf.find(asked.documents[i]);
    if (!stored || !fits(asked, *stored)) continue;
    stored->keys.best_products(queries, asked.query_heads, best, state.threads);
    products.known[i] = 1;
    products.best += bytes_of(std::span<const float>(best));
  }
  job.promise.deliver(std::move(products));
}

void shelve(retrieval_state& state, const id128& document, const read_block& read) {
  if (!read.outcome) return;
  const auto parsed = block::view::parse(read.bytes->bytes());
  if (!parsed || parsed->layout_tag() != document_keys_tag) return;
  if (auto keys = document_keys_from_bytes(parsed->payload()))
    state.shelf.insert(document, std::make_shared<const stored_document_keys>(std::move(*keys)));
}

// As much at once as a quarter of staging takes; at least one.
void read_documents(self_pointer self, const document_job_ptr& job) {
  auto& state = self->state;
  if (job->missing.empty()) return rank_documents(self, *job);
  read_order order{.keys = {}, .fingerprint = job->asked.fingerprint, .timeout = state.parts.read_timeout};
  std::vector<id128> wave;
  std::uint64_t bytes = 0;
  while (!job->missing.empty()) {
    const auto [document, size] = job->missing.back();
    bytes += size;
    if (!wave.empty() && bytes > state.parts.room->capacity_bytes() / 4) break;
    wave.push_back(document);
    order.keys.push_back(policies::document_keys_key(document));
    job->missing.pop_back();
  }
  self->request(state.parts.pool, caf::infinite, read_atom_v, std::move(order))
      .then(
          [self, job, wave](const read_outcome& read) {
            for (std::size_t i = 0; i < wave.size() && i < read->blocks.size(); ++i)
              shelve(self->state, wave[i], read->blocks[i]);
            read_documents(self, job);
          },
          [self, job](const caf::error&) { read_documents(self, job); });
}

caf::result<document_products> rank(self_pointer self, const document_queries& asked) {
  if (const auto good = check(asked); !good) return to_caf(good.error());
  auto& state = self->state;
  auto job = std::make_shared<document_job>();
  job->asked = asked;
  job->promise = self->make_response_promise<document_products>();
  auto promise = job->promise;
  key_list missing;
  std::vector<id128> documents;
  for (const auto& document : asked.documents) {
    if (state.shelf.find(document)) continue;
    documents.push_back(document);
    missing.keys.push_back(policies::document_keys_key(document));
  }
  if (documents.empty()) {
    rank_documents(self, *job);
    return promise;
  }
  self->request(state.parts.pool, caf::infinite, size_atom_v, std::move(missing))
      .then(
          [self, job, documents](const held_sizes& held) {
            for (std::size_t i = 0; i < documents.size() && i < held.bytes.size(); ++i)
              if (held.bytes[i] > 0) job->missing.emplace_back(documents[i], held.bytes[i]);
            read_documents(self, job);
          },
          [job](const caf::error& e) { job->promise.deliver(e); });
  return promise;
}

void forget_gone(retrieval_state& state, const cluster& now) {
  std::erase_if(state.sessions, [&](const auto& session) {
    const auto& reader = session.first.first;
    const auto* member = now.find(reader.node);
    return member == nullptr || member->ref != reader;
  });
}

local_retrieval_actor::behavior_type behave(self_pointer self, retrieval_parts parts) {
  self->state.parts = std::move(parts);
  return {
      [self](open_atom, const retrieval_session& what) { return open(self, what); },
      [self](rank_atom, const ranking_order_ptr& order) { order->answer(rank(self->state, order->asked)); },
      [self](rank_atom, const document_queries& asked) { return rank(self, asked); },
      [self](close_atom, const machines::node_ref& reader, std::uint64_t number) {
        self->state.sessions.erase({reader, number});
      },
      [self](status_atom) -> caf::result<retrieval_report> {
        auto report = self->state.counters;
        report.documents = self->state.shelf.documents();
        for (const auto& [key, session] : self->state.sessions)
          report.blocks += session.what.blocks.size();
        return report;
      },
      [self](cluster_atom, const cluster_ptr& now) { forget_gone(self->state, *now); },
  };
}

}  // namespace

local_retrieval_actor spawn_retrieval(caf::actor_system& system, retrieval_parts parts) {
  return system.spawn(behave, std::move(parts));
}

node_calls::ranking ranking_of(const local_retrieval_actor& actor) {
  return [to = actor.address()](retrieval_queries asked, node_calls::answered<retrieval_scores> done) {
    const auto alive = caf::actor_cast<local_retrieval_actor>(to);
    if (!alive) return done(fail(errc::unreachable, "the node that ranks is going down"));
    caf::anon_send(alive, rank_atom_v,
                   ranking_order_ptr{std::make_shared<const ranking_order>(
                       ranking_order{std::move(asked), std::move(done)})});
  };
}

}  // namespace weft::actors
