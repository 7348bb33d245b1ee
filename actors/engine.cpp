#include <weft/actors/errors.hpp>
#include <weft/actors/remote_context.hpp>
#include <weft/actors/work.hpp>
#include <weft/engine/banded_document.hpp>
#include <weft/engine/generation.hpp>
#include <weft/engine/pruned_decoding.hpp>
#include <weft/engine/question_queries.hpp>
#include <weft/engine/sparse_context.hpp>
#include <weft/engine/stitch.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "group/rank_lead.hpp"
#include "prompt_memory.hpp"
#include "row_judges.hpp"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

namespace weft::actors {

namespace {

// Other ranks look whether they are still wanted each time this one says that it lives.
constexpr auto beat_interval = std::chrono::milliseconds{250};

// A question being answered: its cache until it decodes, then what came out so far.
struct session {
  std::optional<engine::kv_cache> cache;  // none before what others read as well is complete
  session_order order;
  prompt_rows rows;
  caf::typed_response_promise<generate_outcome> promise;
  answer_listener listener;
  generate_outcome outcome;
  std::chrono::steady_clock::time_point first_token;
  remote_context_ptr remote;  // null: dense
  std::shared_ptr<engine::sparse_context> sparse;
  std::unique_ptr<engine::pruned_decoding> pruning;  // null: all rows stay
};

struct waiting_session {
  session_order order;
  caf::typed_response_promise<opened_session> promise;
};

struct engine_state {
  static inline const char* name = "engine";

  std::shared_ptr<engine::runner> model;
  std::shared_ptr<rank_lead> lead;  // of the group whose first rank this engine is; null: none
  std::shared_ptr<const model_context> context;
  std::optional<engine::decode_batch> decoding;
  std::optional<engine::row_scorer> scorer;       // made when it is first needed
  std::optional<engine::surrogates> guessers;     // likewise
  std::optional<engine::repeat_plan> repetition;  // likewise
  std::unordered_map<std::uint64_t, session> sessions;
  std::optional<prompt_memory> memory;
  // Bases that a session loads, and who waits for them.
  std::map<id128, std::vector<waiting_session>> loading;
  std::uint64_t next_session = 1;
  bool stepping = false;
  bool may_wait = false;  // for other nodes, in the middle of a step
};

using self_pointer = engine_actor::stateful_pointer<engine_state>;

// Durations that are reported to people; nothing is decided by them.
class stopwatch {
 public:
  std::uint64_t microseconds() const {
    const auto passed = std::chrono::steady_clock::now() - start_;
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

result<engine::banded_document> encode(engine_state& state, std::span<const engine::token_id> tokens,
                                       const std::optional<engine::banding>& scoring) {
  if (!scoring) {
    auto rows = engine::encode_document(*state.model, tokens);
    if (!rows) return tl::make_unexpected(rows.error());
    return engine::banded_document{std::move(*rows)};
  }
  const auto& context = *state.context;
  if (!state.repetition) {
    auto plan = engine::repeat_plan_for(context.config, context.tokens, context.format);
    if (!plan) return tl::make_unexpected(plan.error());
    state.repetition = std::move(*plan);
  }
  if (!state.scorer) state.scorer.emplace(*state.model);
  return engine::encode_banded(*state.model, *state.scorer, *state.repetition, tokens, *scoring);
}

// Where a session's documents go.
std::vector<engine::kv_cache*> caches_of(session& s) {
  std::vector<engine::kv_cache*> caches;
  for (const auto& part : s.rows.loading)
    caches.push_back(part.get());
  if (caches.empty()) caches.push_back(&*s.cache);
  return caches;
}

// Rows that sessions share are read by passes; those of a session's own, and where some are computed anew,
// by others as well.
engine::loaded_rows wanted_rows(const session& s) {
  return s.rows.loading.empty() || s.order.base->computes ? engine::loaded_rows::here
                                                          : engine::loaded_rows::where_computed;
}

// `blocks`: where they came out of the pool.
result<void> scatter(engine_state& state, session& s, const document_to_load& document,
                     std::span<const block::view> views,
                     std::span<const std::shared_ptr<const block_bytes>> blocks = {}) {
  std::vector<engine::placed_block> placed;
  auto position = document.start_position;
  for (std::size_t i = 0; i < views.size(); ++i) {
    const auto& view = views[i];
    placed.push_back({.block = &view,
                      .bands = std::min(document.bands, view.bands_present()),
                      .start_position = position,
                      .segment = document.segment,
                      .landing = blocks.empty() ? nullptr : blocks[i]->landing()});
    position += static_cast<std::int32_t>(view.dimensions().tokens);
  }
  return engine::scatter_blocks(*state.model, caches_of(s), placed, wanted_rows(s));
}

bool is_intact(const document_to_load& document) {
  return std::ranges::all_of(document.blocks, [](const auto& block) { return block->intact(); });
}

bool in_place(const document_to_load& document) {
  return std::ranges::any_of(document.blocks, [](const auto& block) { return block->in_place(); });
}

bool has_landed(const document_to_load& document) {
  return std::ranges::any_of(document.blocks, [](const auto& block) { return block->landing() != nullptr; });
}

// Which rows the blocks have, and where, is copied from those that are read in place.
result<std::vector<block::view>> parse_blocks(const document_to_load& document) {
  std::vector<block::view> views;
  views.reserve(document.blocks.size());
  for (const auto& bytes : document.blocks) {
    auto parsed = block::view::parse(bytes->bytes());
    if (!parsed) return tl::make_unexpected(parsed.error());
    if (bytes->in_place()) {
      if (auto kept = parsed->keep_index(); !kept) return tl::make_unexpected(kept.error());
    }
    views.push_back(std::move(*parsed));
  }
  return views;
}

// The same rows as out of the pool, also where the document was compressed.
result<void> load_computed(engine_state& state, session& s, const document_to_load& document) {
  const auto encoded = encode(state, *document.tokens, document.scoring);
  if (!encoded) return tl::make_unexpected(encoded.error());
  if (encoded->bands() == nullptr)
    return engine::scatter_document(*state.model, *caches_of(s).front(), encoded->rows(),
                                    document.start_position, document.segment);
  if (encoded->scoring().parameters != document.parameters)
    return fail(errc::unsupported,
                "a document's blocks are lost and this node would score it differently; ingest it again");
  const auto images = engine::block_images::of(*encoded, state.context->cut.block_tokens);
  if (!images) return tl::make_unexpected(images.error());
  return scatter(state, s, document, images->views());
}

result<load_outcome> load(engine_state& state, const load_order& order) {
  const auto found = state.sessions.find(order.session);
  if (found == state.sessions.end()) return fail(errc::not_found, "the session is gone");
  load_outcome outcome;
  for (std::size_t i = 0; i < order.documents.size(); ++i) {
    const auto& document = order.documents[i];
    const stopwatch watch;
    const auto views = parse_blocks(document);
    // From here on it is certain which rows come, if not yet what is in them.
    if (!is_intact(document)) {
      outcome.to_read_again.push_back(i);
      continue;
    }
    if (!views) return tl::make_unexpected(views.error());
    auto& s = found->second;
    if (state.lead) {
      if (auto loaded = state.lead->load(order.session, *s.cache, document, *views); !loaded) {
        if (!in_place(document) || loaded.error().code != errc::corrupt)
          return tl::make_unexpected(loaded.error());
        outcome.to_read_again.push_back(i);
      }
      outcome.rotate_microseconds += watch.microseconds();
      continue;
    }
    bool stored = !document.blocks.empty();
    auto loaded =
        stored ? scatter(state, s, document, *views, document.blocks) : load_computed(state, s, document);
    if (!loaded && has_landed(document) && loaded.error().code == errc::internal) {
      // The device has failed and keeps what only it has.
      outcome.to_read_again.push_back(i);
      continue;
    }
    if (loaded && in_place(document) && !is_intact(document)) {
      // The holder may have given the place to another block meanwhile. The same rows are computed over it.
      stored = false;
      outcome.computed.push_back(i);
      loaded = load_computed(state, s, document);
    }
    if (!loaded) return tl::make_unexpected(loaded.error());
    (stored ? outcome.rotate_microseconds : outcome.encode_microseconds) += watch.microseconds();
  }
  return outcome;
}

void tell(self_pointer self, session& s, engine::token_id token) {
  const bool first = s.outcome.tokens.size() == 1;
  const auto& context = *self->state.context;
  const std::span<const engine::token_id> one{&token, 1};
  if (s.listener) {
    self->send(s.listener, token_atom_v,
               answer_piece{token, first ? context.format.answer(context.tokens, one)
                                         : context.tokens.decode(one, true)});
  }
}

// -- sessions and what they share --

std::uint64_t keep(engine_state& state, session s) {
  const auto number = state.next_session++;
  state.sessions.emplace(number, std::move(s));
  return number;
}

// Behind rows that are there, or loading some for others.
result<opened_session> open_sharing(engine_state& state, const session_order& order) {
  const stopwatch watch;
  auto rows = state.memory->open(order);
  if (!rows) return tl::make_unexpected(rows.error());
  const bool loads = !rows->loading.empty();
  if (loads) state.loading.try_emplace(order.base->key);
  session s;
  s.order = order;
  s.rows = std::move(*rows);
  return opened_session{keep(state, std::move(s)), order.base && !loads, watch.microseconds()};
}

result<opened_session> open_alone(engine_state& state, const session_order& order) {
  auto bytes = state.memory->bytes_of(own_rows(*state.model, order.capacity_rows));
  if (order.remote) {
    const auto& plan = order.remote->plan();
    if (!state.may_wait)
      return fail(errc::unsupported, "sparse decoding needs an engine with a thread of its own");
    bytes += std::min(2 * plan.blocks.winners, plan.blocks.middle) * state.memory->bytes_of(plan.slot_rows);
  }
  auto charge = state.memory->take(bytes);
  if (!charge) return tl::make_unexpected(charge.error());
  session s;
  s.rows.own = std::move(*charge);
  if (state.lead) {
    auto cache = state.lead->open(state.next_session, order);
    if (!cache) return tl::make_unexpected(cache.error());
    s.cache.emplace(std::move(*cache));
    return opened_session{keep(state, std::move(s)), false};
  }
  s.cache.emplace(state.model->cache_shape(), order.capacity_rows);
  if (const auto reserved = engine::reserve_computed_rows(*s.cache, *order.plan); !reserved)
    return tl::make_unexpected(reserved.error());
  if (order.remote) {
    const auto& plan = order.remote->plan();
    s.remote = order.remote;
    s.sparse = std::make_shared<engine::sparse_context>(*state.model, plan.how, plan.documents,
                                                        static_cast<engine::block_scorer&>(*order.remote),
                                                        plan.slot_rows);
    order.remote->set_memory(s.sparse);
  }
  return opened_session{keep(state, std::move(s)), false};
}

caf::result<opened_session> to_reply(const result<opened_session>& opened) {
  if (!opened) return to_caf(opened.error());
  return *opened;
}

void deliver(caf::typed_response_promise<opened_session>& promise, const result<opened_session>& opened) {
  if (opened)
    promise.deliver(*opened);
  else
    promise.deliver(to_caf(opened.error()));
}

caf::result<opened_session> open(self_pointer self, const session_order& order) {
  auto& state = self->state;
  if (!order.shares()) return to_reply(open_alone(state, order));
  if (state.memory->has_documents(order)) return to_reply(open_sharing(state, order));
  if (const auto under_way = state.loading.find(order.base->key); under_way != state.loading.end()) {
    auto promise = self->make_response_promise<opened_session>();
    under_way->second.push_back({order, promise});
    return promise;
  }
  return to_reply(open_sharing(state, order));
}

// All in front of the question: from now on nobody changes it.
result<void> share_rows(engine_state& state, session& s) {
  if (!s.order.shares()) return {};
  const bool loaded = !s.rows.loading.empty();
  auto done = state.memory->complete(s.rows, s.order);
  if (loaded && s.rows.loading.empty()) {
    auto waited = std::move(state.loading.extract(s.order.base->key).mapped());
    for (auto& w : waited)
      deliver(w.promise, open_sharing(state, w.order));
  }
  if (done) s.cache.emplace(s.rows.behind, s.order.capacity_rows);
  return done;
}

// It will never be complete: the next one that has room for it begins anew.
void abandon_base(engine_state& state, const id128& key) {
  auto waited = std::move(state.loading.extract(key).mapped());
  for (auto heir = waited.begin(); heir != waited.end(); ++heir) {
    const auto opened = open_sharing(state, heir->order);
    deliver(heir->promise, opened);
    if (!opened) continue;
    state.loading[key].assign(std::next(heir), waited.end());
    return;
  }
}

void close(self_pointer self, std::uint64_t number) {
  auto& state = self->state;
  (void)state.decoding->remove(number);
  if (const auto found = state.sessions.find(number); found != state.sessions.end()) {
    auto& s = found->second;
    if (s.listener) self->demonitor(s.listener.address());
    if (state.lead) state.lead->close(number);
    const auto abandoned = s.rows.loading.empty() ? std::nullopt : std::optional{s.order.base->key};
    state.sessions.erase(found);
    if (abandoned) abandon_base(state, *abandoned);
  }
  state.memory->tidy();
}

void add_counters(session& s) {
  const auto& counted = s.sparse->counters();
  auto& summary = s.outcome.sparse;
  summary.middle_blocks = s.sparse->plan().middle;
  summary.chosen_blocks = s.sparse->plan().winners;
  summary.rankings = counted.rankings;
  summary.blocks_moved = counted.blocks_moved;
  summary.late_fetches = counted.late_loads;
  summary.stale_rankings = counted.stale_rankings;
  summary.blocks_lost = counted.blocks_lost;
  summary.cache_bytes = s.rows.own.bytes();
}

// One more token of a session, possibly its last.
void note(self_pointer self, const engine::generated_token& token) {
  auto& state = self->state;
  const auto found = state.sessions.find(token.session);
  if (found == state.sessions.end()) return;
  auto& s = found->second;
  if (token.state != engine::finish::stop_token) {
    s.outcome.tokens.push_back(token.token);
    tell(self, s, token.token);
  }
  if (token.state == engine::finish::running) return;
  const auto passed = std::chrono::steady_clock::now() - s.first_token;
  s.outcome.decode_microseconds =
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(passed).count());
  if (s.sparse) add_counters(s);
  if (s.pruning) {
    s.outcome.judged_rows = s.pruning->judged_rows();
    s.outcome.dropped_rows = s.pruning->dropped_rows();
  }
  s.promise.deliver(std::move(s.outcome));
  close(self, token.session);
}

void keep_stepping(self_pointer self) {
  if (self->state.decoding->active() == 0 || std::exchange(self->state.stepping, true)) return;
  self->send(self, step_atom_v);
}

void step(self_pointer self) {
  auto& state = self->state;
  state.stepping = false;
  const auto given = state.lead ? state.lead->step() : result<void>{};
  const auto tokens = given ? state.decoding->step() : tl::make_unexpected(given.error());
  if (tokens) {
    const std::vector<engine::generated_token> made{tokens->begin(), tokens->end()};
    for (const auto& token : made)
      note(self, token);
  } else {
    std::vector<std::uint64_t> ended;  // those that still load documents have no part in this
    for (auto& [number, s] : state.sessions) {
      if (!s.promise.pending()) continue;
      s.promise.deliver(to_caf(tokens.error()));
      ended.push_back(number);
    }
    for (const auto number : ended)
      close(self, number);
  }
  keep_stepping(self);
}

result<void> compute_prompt(engine_state& state, session& s, const generate_order& order,
                            std::span<float> logits) {
  if (order.judging) {
    if (!state.guessers) state.guessers.emplace(*state.model);
    auto judge = open_judge(*state.model, *state.guessers, *order.judging);
    if (!judge) return tl::make_unexpected(judge.error());
    s.pruning = std::move(*judge);
  }
  engine::forward_observer* observer = s.sparse.get();
  if (s.pruning) observer = s.pruning.get();
  const auto rows = static_cast<std::uint32_t>(order.plan->rows.size());
  auto done =
      engine::prefill_part(*state.model, *s.cache, *order.plan, {s.rows.next_row, rows}, logits, observer);
  if (!done) return done;
  s.outcome.computed_rows = rows - s.rows.reused_rows;
  s.outcome.reused_rows = s.rows.reused_rows;
  if (s.pruning) s.pruning->end_pass(*s.cache, judged_positions(*order.plan));
  return {};
}

result<engine::generated_token> start(engine_state& state, session& s, const generate_order& order) {
  std::vector<float> logits(state.model->config().vocab_size);
  const stopwatch watch;
  if (const auto shared = share_rows(state, s); !shared) return tl::make_unexpected(shared.error());
  s.outcome.cache_bytes = s.cache->allocated_bytes_with_base();
  if (s.sparse) s.sparse->open(*s.remote);
  if (state.lead)
    if (const auto given = state.lead->generate(order); !given) return tl::make_unexpected(given.error());
  if (const auto done = compute_prompt(state, s, order, logits); !done)
    return tl::make_unexpected(done.error());
  if (s.sparse)
    if (const auto started = s.sparse->start_decoding(); !started)
      return tl::make_unexpected(started.error());
  const engine::generation_options options{
      .sampled = order.how, .stop_tokens = state.context->config.eos_tokens, .max_tokens = order.max_tokens};
  auto first = state.decoding->add(order.session, std::move(*s.cache),
                                   static_cast<std::int32_t>(order.plan->prompt_tokens), logits, options,
                                   s.sparse.get(), s.pruning.get());
  s.outcome.prefill_microseconds = watch.microseconds();
  s.first_token = std::chrono::steady_clock::now();
  return first;
}

caf::result<generate_outcome> generate(self_pointer self, const generate_order& order) {
  auto& state = self->state;
  const auto found = state.sessions.find(order.session);
  if (found == state.sessions.end()) return to_caf({errc::not_found, "the session is gone"});
  auto& s = found->second;  // others may be opened meanwhile
  const auto first = start(state, s, order);
  if (!first) {
    close(self, order.session);
    return to_caf(first.error());
  }
  auto promise = self->make_response_promise<generate_outcome>();
  s.promise = promise;
  s.listener = order.listener;
  if (order.listener) self->monitor(order.listener);
  note(self, *first);
  keep_stepping(self);
  return promise;
}

// Nobody listens any more: the rest of the answer is not worth computing.
void listener_gone(self_pointer self, const caf::actor_addr& who) {
  for (auto& [number, s] : self->state.sessions) {
    if (!s.listener || s.listener.address() != who) continue;
    s.promise.deliver(to_caf({errc::cancelled, "nobody waits for the answer any more"}));
    return close(self, number);
  }
}

// Without its group an engine is of no use: its caches hold some of the heads.
void leave_lost_group(self_pointer self) {
  if (self->state.lead && self->state.lead->lost()) self->quit(caf::exit_reason::remote_link_unreachable);
}

void beat(self_pointer self) {
  if (!self->state.lead) return;
  self->state.lead->beat();
  leave_lost_group(self);
  self->delayed_send(self, beat_interval, tick_atom_v);
}

engine_actor::behavior_type behave(self_pointer self, std::shared_ptr<engine::runner> model,
                                   std::shared_ptr<const model_context> context, const engine_memory& memory,
                                   engine_thread thread, std::shared_ptr<rank_lead> lead) {
  self->state.memory.emplace(model, memory);
  self->state.may_wait = thread == engine_thread::own;
  self->state.model = std::move(model);
  self->state.lead = std::move(lead);
  if (self->state.lead) self->send(self, tick_atom_v);
  self->state.context = std::move(context);
  self->state.decoding.emplace(*self->state.model);
  self->set_down_handler([self](const caf::down_msg& down) { listener_gone(self, down.source); });
  return {
      [self](encode_atom, const encode_order& order) -> caf::result<encoded_document_ptr> {
        auto encoded = encode(self->state, *order.tokens, order.scoring);
        if (!encoded) return to_caf(encoded.error());
        return encoded_document_ptr{std::make_shared<const engine::banded_document>(std::move(*encoded))};
      },
      [self](open_atom, const session_order& order) { return open(self, order); },
      [self](load_atom, const load_order& order) -> caf::result<load_outcome> {
        auto outcome = load(self->state, order);
        if (!outcome) return to_caf(outcome.error());
        return *outcome;
      },
      [self](generate_atom, const generate_order& order) { return generate(self, order); },
      [self](rank_atom, const query_order& order) -> caf::result<query_outcome> {
        auto& state = self->state;
        auto queries = state.lead
                           ? state.lead->queries(order)
                           : engine::question_queries(*state.model, *order.tokens, order.layer, order.rows);
        leave_lost_group(self);
        if (!queries) return to_caf(queries.error());
        return query_outcome{std::make_shared<const std::vector<float>>(std::move(*queries))};
      },
      [self](close_atom, std::uint64_t number) { close(self, number); },
      [self](status_atom) -> caf::result<std::uint64_t> {
        return std::uint64_t{self->state.sessions.size()};
      },
      [self](step_atom) {
        step(self);
        leave_lost_group(self);
      },
      [self](tick_atom) { beat(self); },
  };
}

}  // namespace

engine_actor spawn_engine(caf::actor_system& system, std::shared_ptr<engine::runner> model,
                          std::shared_ptr<const model_context> context, engine_thread thread,
                          const engine_memory& memory, std::shared_ptr<rank_lead> lead) {
  return thread == engine_thread::own
             ? system.spawn<caf::detached>(behave, std::move(model), std::move(context), memory, thread,
                                           std::move(lead))
             : system.spawn(behave, std::move(model), std::move(context), memory, thread, std::move(lead));
}

}  // namespace weft::actors
