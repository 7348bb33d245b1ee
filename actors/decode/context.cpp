#include <weft/actors/cluster.hpp>
#include <weft/actors/errors.hpp>
#include <weft/actors/remote_context.hpp>
#include <weft/block/layout.hpp>

#include <caf/send.hpp>
#include <caf/stateful_actor.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include "../float_bytes.hpp"
#include "../transfers.hpp"
#include "context_rankers.hpp"
#include "slot_writer.hpp"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto lease_timeout = std::chrono::milliseconds{500};
constexpr auto opening_timeout = std::chrono::seconds{10};
constexpr auto room_interval = std::chrono::milliseconds{2};
constexpr auto call_interval = std::chrono::milliseconds{50};
constexpr int most_attempts = 3;  // of one load, each at another holder

// Where a middle block lies, as far as it is known.
struct placement {
  std::vector<machines::node_ref> holders;
  std::set<machines::node_ref> failed;
  bool known = false;
  machines::node_ref holder;
  std::uint64_t offset = 0;               // in its arena
  std::vector<block::codec> codings;      // by wanted band
  std::vector<block::byte_range> ranges;  // [layer][wanted band]
};

struct pending_load {
  engine::block_load load;
  std::shared_ptr<const void> memory;
  int attempts = 0;
};

// Loads of one fetch.
struct arriving {
  machines::node_ref holder;
  std::vector<pending_load> loads;
  std::vector<staged_bytes> places;  // by load
  fetch_order order;
};

struct context_state {
  static inline const char* name = "context";

  context_parts parts;
  remote_context_ptr context;
  std::uint64_t number = 0;
  std::vector<placement> placements;  // by middle block
  std::vector<ranker> rankers;
  std::deque<pending_load> waiting;
  std::size_t fetches = 0;  // on their way
  bool starved = false;     // of room
  bool ticking = false;
  std::size_t asked = 0;  // calls to rankers that are open
  slot_writer slots;
  transfer_list moved;

  const sparse_context_plan& plan() const { return context->plan(); }
};

using self_pointer = context_actor::stateful_pointer<context_state>;

// -- where the blocks lie --

std::size_t header_bytes(const sparse_index& index) {
  constexpr std::size_t part = block::part_alignment_bytes;
  return (128 + std::size_t{index.bands} * (32 + 4 * std::size_t{index.layers}) + part - 1) / part * part;
}

const sparse_index& index_of(const context_state& state, std::uint32_t block) {
  return *state.plan().indexes[state.plan().blocks.middle_blocks()[block].document];
}

// Those that are wanted.
std::uint32_t bands_of(const context_state& state, std::uint32_t block) {
  return state.plan().bands[state.plan().blocks.middle_blocks()[block].document];
}

// Where they lie for one layer.
std::span<const block::byte_range> ranges_of(const context_state& state, const engine::block_load& load) {
  const std::uint32_t bands = bands_of(state, load.block);
  return std::span(state.placements[load.block].ranges).subspan(std::size_t{load.layer} * bands, bands);
}

// This node first, of others each block another one.
std::optional<machines::node_ref> holder_for(const context_state& state, std::uint32_t block) {
  const auto& now = *state.parts.now;
  std::vector<machines::node_ref> able;
  for (const auto& holder : state.placements[block].holders) {
    const auto* handles = now.handles_of(holder.node);
    if (handles == nullptr || !handles->storage || state.placements[block].failed.contains(holder)) continue;
    if (holder == now.self) return holder;
    able.push_back(holder);
  }
  if (able.empty()) return std::nullopt;
  return able[block % able.size()];
}

void learn(context_state& state, std::uint32_t block, const machines::node_ref& holder,
           const machines::leased_slot& slot, std::span<const std::byte> header) {
  auto& where = state.placements[block];
  const sparse_index& index = index_of(state, block);
  const std::uint32_t bands = bands_of(state, block);
  const auto parsed = block::view::parse(header);
  const block::identity expected{.key = state.plan().middle_keys[block],
                                 .fingerprint = state.plan().fingerprint,
                                 .generation = slot.generation,
                                 .incarnation = holder.incarnation};
  if (!parsed || parsed->id() != expected || parsed->is_opaque() || parsed->band_count() != index.bands ||
      parsed->dimensions().layers != index.layers) {
    where.failed.insert(holder);
    return;
  }
  where.codings.clear();
  for (std::uint32_t band = 0; band < bands; ++band)
    where.codings.push_back(parsed->coding(band));
  where.ranges.clear();
  for (std::uint32_t layer = 0; layer < index.layers; ++layer)
    for (std::uint32_t band = 0; band < bands; ++band)
      where.ranges.push_back(parsed->range_of_layer(band, layer));
  where.holder = holder;
  where.offset = slot.offset;
  where.known = std::ranges::all_of(
      where.ranges, [&](const block::byte_range& r) { return r.offset + r.bytes <= slot.bytes; });
  if (!where.known) where.failed.insert(holder);
}

void place(self_pointer self, std::vector<std::uint32_t> blocks, std::function<void()> done);

// Blocks of one holder: a lease, then all their headers at once.
void read_headers(self_pointer self, const machines::node_ref& holder,
                  const std::vector<std::uint32_t>& blocks, const lease_reply& reply,
                  const std::function<void()>& done) {
  auto& state = self->state;
  std::uint64_t bytes = 0;
  for (const std::uint32_t block : blocks)
    bytes += header_bytes(index_of(state, block));
  auto taken = state.parts.room->take(bytes);
  if (!taken) {
    for (const std::uint32_t block : blocks)
      state.placements[block].failed.insert(holder);
    return done();
  }
  auto room = std::make_shared<staged_bytes>(std::move(*taken));
  fetch_order order{.node = holder.node, .ranges = {}, .timeout = state.parts.read_timeout, .watcher = {}};
  auto leased = std::make_shared<std::vector<std::pair<std::uint32_t, machines::leased_slot>>>();
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::size_t size = header_bytes(index_of(state, blocks[i]));
    if (reply.holder != holder || i >= reply.slots.size() || reply.slots[i].outcome != errc::ok ||
        reply.slots[i].bytes < size) {
      state.placements[blocks[i]].failed.insert(holder);
      continue;
    }
    order.ranges.push_back({reply.slots[i].offset, size, room->arena_offset() + at});
    leased->emplace_back(blocks[i], reply.slots[i]);
    at += size;
  }
  if (order.ranges.empty()) return done();
  self->request(state.parts.fabric, caf::infinite, fetch_atom_v, std::move(order))
      .then(
          [self, holder, room, leased, done](const fetch_outcome& fetched) {
            std::size_t from = 0;
            for (std::size_t i = 0; i < leased->size(); ++i) {
              const auto& [block, slot] = (*leased)[i];
              const std::size_t size = header_bytes(index_of(self->state, block));
              if (i < fetched.ranges.size() && fetched.ranges[i])
                learn(self->state, block, holder, slot, room->bytes().subspan(from, size));
              else
                self->state.placements[block].failed.insert(holder);
              from += size;
            }
            done();
          },
          [self, holder, leased, done](const caf::error&) {
            for (const auto& [block, slot] : *leased)
              self->state.placements[block].failed.insert(holder);
            done();
          });
}

// Finds each block at a holder that has not failed yet; where none is left it stays unknown.
void place(self_pointer self, std::vector<std::uint32_t> blocks, std::function<void()> done) {
  auto& state = self->state;
  std::map<machines::node_ref, std::vector<std::uint32_t>> by_holder;
  for (const std::uint32_t block : blocks)
    if (const auto holder = holder_for(state, block)) by_holder[*holder].push_back(block);
  if (by_holder.empty()) return done();
  const auto finish = [self, blocks = std::move(blocks), done = std::move(done),
                       open = std::make_shared<std::size_t>(by_holder.size())] {
    if (--*open > 0) return;
    std::vector<std::uint32_t> unknown;
    for (const std::uint32_t block : blocks)
      if (!self->state.placements[block].known && holder_for(self->state, block)) unknown.push_back(block);
    place(self, std::move(unknown), done);
  };
  for (const auto& [holder, of_holder] : by_holder) {
    lease_request request{.reader = state.parts.now->self, .keys = {}};
    for (const std::uint32_t block : of_holder) {
      request.keys.push_back(state.plan().middle_keys[block]);
      request.front_bytes.push_back(state.plan().middle_front_bytes[block]);
    }
    self->request(state.parts.now->handles_of(holder.node)->storage, lease_timeout, lease_atom_v,
                  std::move(request))
        .then([self, holder = holder, of_holder = of_holder,
               finish](const lease_reply& reply) { read_headers(self, holder, of_holder, reply, finish); },
              [self, holder = holder, of_holder = of_holder, finish](const caf::error&) {
                for (const std::uint32_t block : of_holder)
                  self->state.placements[block].failed.insert(holder);
                finish();
              });
  }
}

// -- who ranks them --

void open_rankers(self_pointer self, const std::function<void()>& done) {
  auto& state = self->state;
  state.rankers = assign_rankers(state.plan(), *state.parts.now, state.number, [&](std::uint32_t block) {
    return std::span<const machines::node_ref>(state.placements[block].holders);
  });
  state.context->set_rankers(state.rankers.size());
  if (state.rankers.empty()) return done();
  const auto finish = [done, open = std::make_shared<std::size_t>(state.rankers.size())] {
    if (--*open == 0) done();
  };
  for (std::size_t i = 0; i < state.rankers.size(); ++i)
    self->request(state.rankers[i].node, opening_timeout, open_atom_v,
                  session_of(state.plan(), state.parts.now->self, state.rankers[i]))
        .then(
            [self, i, finish](const retrieval_held& held) {
              self->state.rankers[i].held = held.blocks;
              finish();
            },
            [self, i, finish](const caf::error&) {
              self->state.rankers[i].gone = true;
              finish();
            });
}

void take_scores(context_state& state, std::size_t number, std::uint64_t round,
                 std::span<const std::uint32_t> layers, const retrieval_scores& scores) {
  const auto& held = state.rankers[number].held;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    policies::retrieval::shard_scores shard{.blocks = held, .sums = {}, .totals = {}};
    if (i < scores.sums.size() && i < scores.totals.size()) {
      shard.sums = floats_of(scores.sums[i]);
      shard.totals = totals_of(scores.totals[i]);
    }
    if (shard.sums.size() == std::max<std::size_t>(1, shard.totals.size()) * held.size())
      state.context->ranked(round, number, layers[i], std::move(shard));
    else
      state.context->ranking_failed(round, number, layers.subspan(i, 1));
  }
}

void keep_ticking(self_pointer self) {
  if (!std::exchange(self->state.ticking, true)) self->delayed_send(self, call_interval, tick_atom_v);
}

void ask_ranker(self_pointer self, std::size_t number, const remote_queries& asked, std::size_t first,
                std::size_t last) {
  auto& state = self->state;
  const ranker& r = state.rankers[number];
  retrieval_queries message{.reader = state.parts.now->self,
                            .number = r.session,
                            .steps = asked.steps,
                            .layers = {asked.layers.begin() + static_cast<std::ptrdiff_t>(first),
                                       asked.layers.begin() + static_cast<std::ptrdiff_t>(last)},
                            .queries = {}};
  for (std::size_t i = first; i < last; ++i)
    message.queries += asked.queries[i];
  ++state.asked;
  keep_ticking(self);
  const auto layers = message.layers;
  state.parts.calls->rank(
      r.id, std::move(message), state.parts.read_timeout,
      [to = self->address(), number, round = asked.round, layers](result<retrieval_scores> scores) {
        const auto alive = caf::actor_cast<context_actor>(to);
        if (!alive) return;
        caf::anon_send(alive, rank_atom_v,
                       ranked_layers_ptr{std::make_shared<const ranked_layers>(
                           ranked_layers{number, round, layers, std::move(scores)})});
      });
}

void take_ranked(context_state& state, const ranked_layers& ranked) {
  --state.asked;
  if (ranked.scores) return take_scores(state, ranked.ranker, ranked.round, ranked.layers, *ranked.scores);
  const auto why = ranked.scores.error().code;
  if (why == errc::unreachable || why == errc::not_found) state.rankers[ranked.ranker].gone = true;
  state.context->ranking_failed(ranked.round, ranked.ranker, ranked.layers);
}

void rank(self_pointer self, const remote_queries& asked) {
  auto& state = self->state;
  for (std::size_t number = 0; number < state.rankers.size(); ++number) {
    const ranker& r = state.rankers[number];
    if (r.gone) {
      state.context->ranking_failed(asked.round, number, asked.layers);
      continue;
    }
    const std::size_t lines = std::size_t{asked.steps} * state.plan().query_heads;
    const std::size_t bytes_of_layer = std::max(
        (std::max<std::size_t>(1, r.held.size()) + 2) * lines * sizeof(float), asked.queries[0].size());
    const std::size_t at_once = std::max<std::size_t>(1, most_scores_bytes / bytes_of_layer);
    for (std::size_t first = 0; first < asked.layers.size(); first += at_once)
      ask_ranker(self, number, asked, first, std::min(asked.layers.size(), first + at_once));
  }
}

// -- blocks into slots --

result<void> put_in_slot(context_state& state, const pending_load& wanted, std::span<const std::byte> bytes) {
  const auto& load = wanted.load;
  const auto& codings = state.placements[load.block].codings;
  std::vector<block::layer_bytes> bands;
  std::size_t at = 0;
  for (const auto& range : ranges_of(state, load)) {
    bands.push_back({bytes.subspan(at, range.bytes), codings[bands.size()]});
    at += range.bytes;
  }
  return state.slots.put(state.plan(), index_of(state, load.block), load, bands);
}

void pump(self_pointer self);

// Tries other holders; what nobody has left is lost.
void try_elsewhere(self_pointer self, std::vector<pending_load> failed) {
  auto& state = self->state;
  std::vector<engine::block_load> lost;
  std::vector<std::uint32_t> blocks;
  auto again = std::make_shared<std::vector<pending_load>>();
  for (auto& load : failed) {
    if (++load.attempts < most_attempts) {
      if (!state.placements[load.load.block].known) blocks.push_back(load.load.block);
      again->push_back(std::move(load));
    } else {
      lost.push_back(load.load);
    }
  }
  if (!lost.empty()) state.context->loaded(lost.size(), lost);
  std::ranges::sort(blocks);
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
  place(self, std::move(blocks), [self, again] {
    for (auto& load : *again)
      self->state.waiting.push_front(std::move(load));
    pump(self);
  });
}

void take_in(self_pointer self, const std::shared_ptr<arriving>& in, const fetch_outcome& fetched) {
  auto& state = self->state;
  --state.fetches;
  add_transfer(state.moved.transfers,
               {state.parts.now->name_of(in->holder.node), fetched.transport, fetched.path, fetched.bytes});
  std::vector<pending_load> failed;
  std::size_t range = 0;
  std::size_t done = 0;
  for (std::size_t i = 0; i < in->loads.size(); ++i) {
    auto& load = in->loads[i];
    bool here = true;
    for (std::uint32_t band = 0; band < bands_of(state, load.load.block); ++band, ++range)
      here = here && range < fetched.ranges.size() && fetched.ranges[range].has_value();
    if (here && put_in_slot(state, load, in->places[i].bytes())) {
      ++done;
      continue;
    }
    auto& where = state.placements[load.load.block];
    if (where.holder == in->holder) where.known = false;
    where.failed.insert(in->holder);
    failed.push_back(std::move(load));
  }
  in->places.clear();
  if (done > 0) state.context->loaded(done, {});
  if (!failed.empty()) try_elsewhere(self, std::move(failed));
  pump(self);
}

void fetch(self_pointer self, const std::shared_ptr<arriving>& in) {
  ++self->state.fetches;
  self->request(self->state.parts.fabric, caf::infinite, fetch_atom_v, in->order)
      .then([self, in](const fetch_outcome& fetched) { take_in(self, in, fetched); },
            [self, in](const caf::error&) { take_in(self, in, {}); });
}

// As many loads as staging has room for, by holder.
void pump(self_pointer self) {
  auto& state = self->state;
  std::map<machines::node_ref, std::shared_ptr<arriving>> by_holder;
  std::vector<engine::block_load> lost;
  while (!state.waiting.empty()) {
    auto& next = state.waiting.front();
    const auto& where = state.placements[next.load.block];
    if (!where.known) {
      lost.push_back(next.load);
      state.waiting.pop_front();
      continue;
    }
    const auto ranges = ranges_of(state, next.load);
    std::uint64_t bytes = 0;
    for (const auto& range : ranges)
      bytes += range.bytes;
    auto place = state.parts.room->take(bytes);
    if (!place && place.error().code == errc::out_of_space) break;
    if (!place) {
      lost.push_back(next.load);
      state.waiting.pop_front();
      continue;
    }
    auto& in = by_holder[where.holder];
    if (!in) {
      in = std::make_shared<arriving>();
      in->holder = where.holder;
      in->order.node = where.holder.node;
      in->order.timeout = state.parts.read_timeout;
    }
    std::uint64_t to = place->arena_offset();
    for (const auto& range : ranges) {
      in->order.ranges.push_back({where.offset + range.offset, range.bytes, to});
      to += range.bytes;
    }
    in->places.push_back(std::move(*place));
    in->loads.push_back(std::move(next));
    state.waiting.pop_front();
  }
  if (!lost.empty()) state.context->loaded(lost.size(), lost);
  for (const auto& [holder, in] : by_holder)
    fetch(self, in);
  // Others fill staging: nothing of ours will come in and say that there is room again.
  if (!state.waiting.empty() && state.fetches == 0 && !std::exchange(state.starved, true))
    self->delayed_send(self, room_interval, load_atom_v);
}

caf::result<std::uint64_t> open(self_pointer self) {
  auto& state = self->state;
  const auto& plan = state.plan();
  state.placements.resize(plan.middle_keys.size());
  auto promise = self->make_response_promise<std::uint64_t>();
  self->request(state.parts.pool, caf::infinite, locate_atom_v, key_list{plan.middle_keys})
      .then(
          [self, promise](const locate_reply& located) mutable {
            auto& s = self->state;
            for (std::size_t i = 0; i < located.keys.size() && i < s.placements.size(); ++i)
              s.placements[i].holders = located.keys[i].holders;
            const auto& blocks = s.plan().blocks;
            const bool ranked = blocks.winners > 0 && blocks.winners < blocks.middle;
            const auto finish = [self, promise, ranked,
                                 open = std::make_shared<int>(ranked ? 2 : 1)]() mutable {
              if (--*open > 0) return;
              std::set<caf::actor_addr> nodes;
              for (const auto& r : self->state.rankers)
                nodes.insert(r.node.address());
              if (ranked && nodes.empty())
                promise.deliver(to_caf({errc::unreachable,
                                        "no live node has the role `retrieval`; give it to nodes that store, "
                                        "or ask without --retrieval"}));
              else
                promise.deliver(std::uint64_t{nodes.size()});
            };
            std::vector<std::uint32_t> all(s.placements.size());
            for (std::uint32_t i = 0; i < all.size(); ++i)
              all[i] = i;
            if (ranked) open_rankers(self, finish);
            place(self, std::move(all), finish);
          },
          [promise](const caf::error& e) mutable { promise.deliver(e); });
  return promise;
}

void say_goodbye(self_pointer self) {
  const auto& state = self->state;
  for (const auto& r : state.rankers)
    self->send(r.node, close_atom_v, state.parts.now->self, r.session);
  self->quit();
}

context_actor::behavior_type behave(self_pointer self, context_parts parts, remote_context_ptr context,
                                    std::uint64_t number) {
  self->state.parts = std::move(parts);
  self->state.context = std::move(context);
  self->state.number = number;
  self->set_exit_handler([self](const caf::exit_msg&) { say_goodbye(self); });
  self->set_down_handler([self](const caf::down_msg&) { say_goodbye(self); });
  self->monitor(self->state.parts.owner);
  return {
      [self](open_atom) { return open(self); },
      [self](load_atom, const remote_loads_ptr& order) {
        for (const auto& load : order->loads)
          self->state.waiting.push_back({load, order->memory});
        pump(self);
      },
      [self](rank_atom, const remote_queries_ptr& asked) { rank(self, *asked); },
      [self](status_atom) -> caf::result<transfer_list> { return self->state.moved; },
      [self](rank_atom, const ranked_layers_ptr& ranked) { take_ranked(self->state, *ranked); },
      [self](load_atom) {
        self->state.starved = false;
        pump(self);
      },
      [self](tick_atom) {
        self->state.ticking = false;
        if (self->state.asked == 0) return;
        self->state.parts.calls->expire();
        keep_ticking(self);
      },
  };
}

}  // namespace

context_actor spawn_context(caf::actor_system& system, context_parts parts, remote_context_ptr context,
                            std::uint64_t number) {
  return system.spawn(behave, std::move(parts), std::move(context), number);
}

}  // namespace weft::actors
