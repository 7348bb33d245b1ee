#include <weft/actors/cluster.hpp>
#include <weft/actors/document_keys.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/actors/work.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/document.hpp>
#include <weft/engine/document_blocks.hpp>

#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "document_bands.hpp"
#include "manifests.hpp"

#include <algorithm>
#include <chrono>
#include <deque>
#include <optional>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto write_timeout = std::chrono::seconds{10};
// A manifest is small and lets a lost document be computed again, so it stands on two nodes at least.
constexpr std::uint32_t manifest_replicas = 2;

// One document on its way from tokens to the pool.
struct ingest {
  encode_request request;
  schema::manifest manifest;
  encoded_document_ptr encoded;
  std::optional<sparse_index> sparse;  // none: nobody in the cluster ranks blocks
  std::uint32_t next_block = 0;
  std::vector<std::string> holders;
  time_point started;
  bool again = false;  // stored whole before: under that name and id
  caf::typed_response_promise<document_summary> promise;
  caf::typed_response_promise<std::shared_ptr<const schema::manifest>> promise_again;

  void fail_with(const error& e) {
    if (again)
      promise_again.deliver(to_caf(e));
    else
      promise.deliver(to_caf(e));
  }
  void add_holders(const std::vector<std::string>& names) {
    for (const auto& name : names) {
      if (std::find(holders.begin(), holders.end(), name) == holders.end()) holders.push_back(name);
    }
  }
};
using ingest_ptr = std::shared_ptr<ingest>;

struct prefill_state {
  static inline const char* name = "prefill";

  work_parts parts;
  std::string node_name;
  std::uint32_t replicas = 1;
  std::deque<ingest_ptr> waiting;  // staging holds one document's blocks at a time
  bool busy = false;
  std::optional<time_point> idle_since;
  bool retrieval = false;  // the cluster has nodes that rank blocks
};

using self_pointer = local_prefill_actor::stateful_pointer<prefill_state>;

void start_next(self_pointer self);

void finish(self_pointer self) {
  self->state.busy = false;
  self->state.idle_since = self->state.parts.clock();
  start_next(self);
}

void give_up(self_pointer self, const ingest_ptr& job, const error& why) {
  job->fail_with(why);
  finish(self);
}

document_summary summarise(self_pointer self, const ingest& job) {
  const auto passed =
      std::chrono::duration_cast<std::chrono::microseconds>(self->state.parts.clock() - job.started);
  return {.id = job.manifest.document,
          .name = job.request.name,
          .tokens = job.manifest.tokens.size(),
          .blocks = job.manifest.block_keys.size(),
          .bytes = job.manifest.creation.block_bytes,
          .holders = job.holders,
          .microseconds = static_cast<std::uint64_t>(passed.count()),
          .pinned = false,
          .importance = job.manifest.meaning.policy,
          .band_millionths = band_millionths(job.manifest),
          .band_bytes = band_bytes(job.manifest),
          .served_millionths = band_millionths(job.manifest).back()};
}

template <class Done>
void write(self_pointer self, const ingest_ptr& job, std::vector<block_to_write> blocks,
           std::uint32_t replicas, Done done) {
  write_order order{.blocks = std::move(blocks), .replicas = replicas, .timeout = write_timeout};
  self->request(self->state.parts.pool, caf::infinite, write_atom_v, std::move(order))
      .then(
          [self, job, done](const write_outcome& written) {
            for (const auto& block : written->blocks) {
              if (!block) return give_up(self, job, block.error());
            }
            job->add_holders(written->holders);
            done();
          },
          [self, job](const caf::error& e) { give_up(self, job, from_caf(e, "writing to the pool")); });
}

result<block_to_write> stage_opaque(const work_parts& parts, const id128& key,
                                    std::span<const std::byte> payload, std::uint64_t tag) {
  auto place = parts.room->take(block::opaque_size_bytes(payload.size()));
  if (!place) return tl::make_unexpected(place.error());
  const block::identity id{
      .key = key, .fingerprint = parts.context->scope.fingerprint, .generation = 0, .incarnation = 0};
  if (const auto written = block::write_opaque(place->bytes(), id, payload, tag); !written)
    return tl::make_unexpected(written.error());
  return block_to_write{key, machines::item_kind::opaque,
                        std::make_shared<const staged_bytes>(std::move(*place))};
}

// What retrieval needs of the whole document.
result<std::vector<block_to_write>> stage_document_parts(const prefill_state& state, const ingest& job) {
  std::vector<block_to_write> staged;
  if (job.sparse) {
    auto index = stage_opaque(state.parts, policies::sparse_index_key(job.manifest.block_keys.front()),
                              to_bytes(*job.sparse), sparse_index_tag);
    if (!index) return tl::make_unexpected(index.error());
    staged.push_back(std::move(*index));
  }
  if (state.retrieval) {
    auto keys = stage_opaque(state.parts, policies::document_keys_key(job.manifest.document),
                             document_keys_bytes(job.encoded->rows()), document_keys_tag);
    if (!keys) return tl::make_unexpected(keys.error());
    staged.push_back(std::move(*keys));
  }
  return staged;
}

void deliver(self_pointer self, const ingest_ptr& job) {
  if (job->again)
    job->promise_again.deliver(std::make_shared<const schema::manifest>(std::move(job->manifest)));
  else
    job->promise.deliver(summarise(self, *job));
  finish(self);
}

// Only now can the document be found: all of its blocks are committed. Whoever wants it scored again replaces
// its manifest himself.
void write_document(self_pointer self, const ingest_ptr& job) {
  auto last = stage_document_parts(self->state, *job);
  if (!last) return give_up(self, job, last.error());
  if (!job->again) {
    auto staged = stage_manifest(job->manifest, *self->state.parts.room);
    if (!staged) return give_up(self, job, staged.error());
    last->push_back(std::move(*staged));
  }
  if (last->empty()) return deliver(self, job);
  write(self, job, std::move(*last), std::max(self->state.replicas, manifest_replicas),
        [self, job] { deliver(self, job); });
}

result<void> note_band_ends(schema::manifest& m, std::span<const std::byte> bytes) {
  const auto written = block::view::parse(bytes);
  if (!written) return tl::make_unexpected(written.error());
  for (std::uint32_t band = 0; band < written->band_count(); ++band)
    m.band_ends.push_back(static_cast<std::uint32_t>(written->end_of_band(band)));
  return {};
}

// A block that is to be written, and what ranks it, beside it.
struct waiting_block {
  std::uint32_t index = 0;
  std::vector<block::band_rows> bands = {};
  staged_bytes place = {};
  std::optional<block_to_write> reduced = {};
};

result<waiting_block> place_block(const work_parts& parts, const ingest& job, std::uint32_t index) {
  const std::uint32_t block_tokens = parts.context->cut.block_tokens;
  waiting_block block{.index = index, .bands = job.encoded->block_bands(index, block_tokens)};
  if (job.sparse && index < job.sparse->blocks) {
    const id128& key = job.manifest.block_keys[index];
    auto reduced = stage_opaque(parts, policies::reduced_keys_key(key),
                                reduced_keys(*job.sparse, job.encoded->rows(), index), reduced_keys_tag);
    if (!reduced) return tl::make_unexpected(reduced.error());
    reduced->placed_by = key;
    block.reduced = std::move(*reduced);
  }
  auto place =
      parts.room->take(block::size_bytes(job.encoded->rows().block_shape(index, block_tokens), block.bands));
  if (!place) return tl::make_unexpected(place.error());
  block.place = std::move(*place);
  return block;
}

result<void> write_rows(const work_parts& parts, const ingest& job, std::span<waiting_block> blocks) {
  const auto& context = *parts.context;
  std::vector<engine::block_place> places;
  for (waiting_block& block : blocks)
    places.push_back({.index = block.index,
                      .id = {.key = job.manifest.block_keys[block.index],
                             .fingerprint = context.scope.fingerprint,
                             .generation = 0,
                             .incarnation = 0},
                      .bands = std::move(block.bands),
                      .out = block.place.bytes()});
  return engine::write_blocks(job.encoded->rows(), context.cut.block_tokens, places);
}

// Notes what the manifest and the index of the document say of a block that was written.
result<void> add_written(ingest& job, waiting_block block, std::vector<block_to_write>& wave) {
  const std::span<const std::byte> bytes = block.place.bytes();
  if (job.encoded->bands() != nullptr)
    if (auto noted = note_band_ends(job.manifest, bytes); !noted) return noted;
  job.manifest.creation.block_bytes += block.place.size_bytes();
  // Rows that cannot be read layer by layer: nothing to rank them for.
  if (block.reduced && job.sparse && !add_block(*job.sparse, bytes)) job.sparse.reset();
  if (block.reduced && job.sparse) wave.push_back(std::move(*block.reduced));
  wave.push_back({job.manifest.block_keys[block.index], machines::item_kind::block,
                  std::make_shared<const staged_bytes>(std::move(block.place))});
  return {};
}

// As many of the next blocks as staging has room for.
result<std::vector<block_to_write>> stage_blocks(const work_parts& parts, ingest& job) {
  const auto blocks = static_cast<std::uint32_t>(job.manifest.block_keys.size());
  std::vector<waiting_block> waiting;
  for (; job.next_block < blocks; ++job.next_block) {
    auto placed = place_block(parts, job, job.next_block);
    if (!placed && (waiting.empty() || placed.error().code != errc::out_of_space))
      return tl::make_unexpected(placed.error());
    if (!placed) break;
    waiting.push_back(std::move(*placed));
  }
  if (auto written = write_rows(parts, job, waiting); !written) return tl::make_unexpected(written.error());
  std::vector<block_to_write> wave;
  for (waiting_block& block : waiting)
    if (auto added = add_written(job, std::move(block), wave); !added)
      return tl::make_unexpected(added.error());
  return wave;
}

// As many blocks as staging has room for, then the next ones, then the manifest.
void write_blocks(self_pointer self, const ingest_ptr& job) {
  auto wave = stage_blocks(self->state.parts, *job);
  if (!wave) return give_up(self, job, wave.error());
  if (wave->empty()) return write_document(self, job);
  write(self, job, std::move(*wave), self->state.replicas, [self, job] { write_blocks(self, job); });
}

// The scoring is part of what a document is called.
void name_rows(self_pointer self, ingest& job) {
  auto& m = job.manifest;
  auto rows = m.document;
  if (job.encoded->bands() != nullptr) rows = policies::scored_document_id(rows, job.encoded->scoring());
  // Neither the blocks of the whole document nor those of one that was scored from the beginning: dropping
  // one of the documents leaves the others as they are.
  if (job.again)
    rows = policies::scored_document_id(rows, job.encoded->scoring());
  else
    m.document = rows;
  describe_bands(m, *job.encoded);
  m.block_keys = self->state.parts.context->block_keys(rows, m.tokens);
}

void encode(self_pointer self, const ingest_ptr& job) {
  auto& parts = self->state.parts;
  auto scoring = banding_of(job->request);
  if (!scoring) return give_up(self, job, scoring.error());
  const encode_order order{std::make_shared<const std::vector<engine::token_id>>(job->request.tokens),
                           std::move(*scoring)};
  self->request(parts.engine, caf::infinite, encode_atom_v, order)
      .then(
          [self, job](const encoded_document_ptr& encoded) {
            job->encoded = encoded;
            name_rows(self, *job);
            if (self->state.retrieval)
              job->sparse = describe_sparse(encoded->rows(), self->state.parts.context->cut.block_tokens);
            const auto passed = self->state.parts.clock() - job->started;
            job->manifest.creation.encode_ms = std::chrono::duration<double, std::milli>(passed).count();
            write_blocks(self, job);
          },
          [self, job](const caf::error& e) { give_up(self, job, from_caf(e, "encoding")); });
}

void describe(self_pointer self, ingest& job) {
  const auto& context = *self->state.parts.context;
  auto& m = job.manifest;
  m.document = policies::document_id(context.scope, job.request.tokens);
  m.name = job.request.name;
  m.fingerprint = context.scope.fingerprint;
  m.block_tokens = context.cut.block_tokens;
  m.tokens = job.request.tokens;
  m.creation.node = self->state.node_name;
  m.creation.software = "weft " WEFT_SOFTWARE_VERSION;
  m.creation.unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                           std::chrono::system_clock::now().time_since_epoch())
                           .count();
}

void start_next(self_pointer self) {
  auto& state = self->state;
  if (state.busy || state.waiting.empty()) return;
  state.busy = true;
  auto job = std::move(state.waiting.front());
  state.waiting.pop_front();
  job->started = state.parts.clock();
  describe(self, *job);
  encode(self, job);
}

result<void> check(const model_context& context, const encode_request& request) {
  if (request.tokens.empty())
    return fail(errc::invalid_argument, "the document has no tokens; give it some text");
  const auto longest = context.config.max_context_tokens;
  if (request.tokens.size() > longest) {
    return fail(errc::invalid_argument,
                "document `" + request.name + "` has " + std::to_string(request.tokens.size()) +
                    " tokens, more than the model's context of " + std::to_string(longest) + "; split it");
  }
  if (const auto scoring = banding_of(request); !scoring) return tl::make_unexpected(scoring.error());
  return {};
}

// Whoever comes with new work waits for one document at most.
bool is_idle(const prefill_state& state) {
  constexpr auto rest = std::chrono::seconds{1};
  return !state.busy && state.waiting.empty() &&
         (!state.idle_since || state.parts.clock() - *state.idle_since >= rest);
}

caf::result<std::shared_ptr<const schema::manifest>> encode_again(self_pointer self,
                                                                  const rescore_order& order) {
  const auto& before = *order.before;
  auto job = std::make_shared<ingest>();
  job->again = true;
  job->request = {.name = before.name,
                  .tokens = before.tokens,
                  .importance = order.scoring.importance,
                  .band_millionths = order.scoring.band_millionths,
                  .band_codecs = order.scoring.band_codecs};
  if (!is_idle(self->state)) return to_caf({errc::overloaded, "this node has other documents to encode"});
  if (const auto good = check(*self->state.parts.context, job->request); !good) return to_caf(good.error());
  job->promise_again = self->make_response_promise<std::shared_ptr<const schema::manifest>>();
  auto promise = job->promise_again;
  self->state.waiting.push_back(std::move(job));
  start_next(self);
  return promise;
}

local_prefill_actor::behavior_type behave(self_pointer self, const node_config& config, work_parts parts) {
  self->state.parts = std::move(parts);
  self->state.node_name = config.name;
  self->state.replicas = own_replicas(config);
  return {
      [self](encode_atom, const encode_request& request) -> caf::result<document_summary> {
        if (const auto good = check(*self->state.parts.context, request); !good) return to_caf(good.error());
        auto job = std::make_shared<ingest>();
        job->request = request;
        job->promise = self->make_response_promise<document_summary>();
        auto promise = job->promise;
        self->state.waiting.push_back(std::move(job));
        start_next(self);
        return promise;
      },
      [self](encode_atom, const rescore_order& order) { return encode_again(self, order); },
      [self](cluster_atom, const cluster_ptr& now) {
        self->state.retrieval =
            !machines::with_role(now->view, static_cast<unsigned>(role::retrieval)).empty();
      },
  };
}

}  // namespace

local_prefill_actor spawn_prefill(caf::actor_system& system, const node_config& config, work_parts parts) {
  return system.spawn(behave, config, std::move(parts));
}

}  // namespace weft::actors
