#include <weft/actors/device_landing.hpp>

#include <spdlog/spdlog.h>

#include "../transfers.hpp"
#include "pool_state.hpp"

#include <algorithm>
#include <variant>

namespace weft::actors {

namespace {

using machines::block_way;

template <class... Fs>
struct overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
overloaded(Fs...) -> overloaded<Fs...>;

void carry_out(pool_core& core, std::uint64_t job, std::vector<machines::read_action> actions);

read_job* find(pool_core& core, std::uint64_t job) {
  const auto found = core.reads.find(job);
  return found == core.reads.end() ? nullptr : &found->second;
}

void locate_for(pool_core& core, std::uint64_t job, const machines::locate_keys& action) {
  const auto* r = find(core, job);
  std::vector<id128> keys;
  keys.reserve(action.keys.size());
  for (const auto key : action.keys)
    keys.push_back(r->machine.keys()[key]);
  const auto located = [job, call = action.call](pool_core& c, std::vector<located_key> found) {
    auto* waiting = find(c, job);
    if (!waiting) return;
    std::vector<machines::key_holders> answers;
    answers.reserve(found.size());
    for (auto& key : found)
      answers.push_back({std::move(key.holders), key.maybe});
    carry_out(c, job, waiting->machine.on_located(call, std::move(answers), c.parts.clock()));
  };
  locate(core, keys, action.timeout, back_on_strand<std::vector<located_key>>(core, located));
}

// What of a leased block is fetched: all of it, or the bands that are wanted, if they are still there.
machines::leased_piece wanted_part(const read_job& r, std::uint32_t key, const machines::leased_slot& slot) {
  machines::leased_piece piece{slot.outcome, slot.offset, slot.bytes, slot.generation};
  const std::uint64_t wanted = key < r.front_bytes.size() ? r.front_bytes[key] : 0;
  if (wanted == 0 || piece.outcome != errc::ok) return piece;
  if (wanted > piece.bytes) piece.outcome = errc::not_found;
  piece.bytes = wanted;
  return piece;
}

void fail_lease(pool_core& core, std::uint64_t job, std::uint64_t call, errc why) {
  if (auto* r = find(core, job))
    carry_out(core, job, r->machine.on_lease_failed(call, why, core.parts.clock()));
}

// A lease under which blocks are viewed ends with the last view. The holder's time runs from when it was
// asked, at the earliest.
void note_lease(pool_core& core, read_job& r, const machines::node_ref& holder, std::uint64_t lease,
                time_point asked_at) {
  const auto& parts = core.parts;
  // A view may be dropped when this node is no more.
  auto release = [calls = std::weak_ptr{parts.calls}, holder, lease] {
    if (const auto alive = calls.lock()) alive->release(holder.node, lease);
  };
  r.leases.emplace(std::pair{holder, lease},
                   std::make_shared<const view_lease>(parts.clock, asked_at + parts.lease_duration, release));
}

void take_lease(pool_core& core, std::uint64_t job, const machines::request_lease& asked,
                const lease_reply& reply, time_point asked_at) {
  auto* r = find(core, job);
  if (!r) return;
  if (reply.holder != asked.holder) {  // another life of that node than the one that was located
    if (reply.lease != 0) core.parts.calls->release(asked.holder.node, reply.lease);
    return fail_lease(core, job, asked.call, errc::stale);
  }
  if (r->in_place && reply.lease != 0) note_lease(core, *r, asked.holder, reply.lease, asked_at);
  std::vector<machines::leased_piece> pieces;
  for (std::size_t i = 0; i < reply.slots.size() && i < asked.keys.size(); ++i) {
    pieces.push_back(wanted_part(*r, asked.keys[i], reply.slots[i]));
    r->whole_bytes[asked.keys[i]] = reply.slots[i].bytes;
  }
  carry_out(core, job, r->machine.on_leased(asked.call, reply.lease, pieces, core.parts.clock()));
}

void lease_for(pool_core& core, std::uint64_t job, const machines::request_lease& action) {
  const auto* r = find(core, job);
  lease_request request{.reader = core.cluster()->now->self, .keys = {}};
  for (const auto key : action.keys) {
    request.keys.push_back(r->machine.keys()[key]);
    if (!r->front_bytes.empty())
      request.front_bytes.push_back(key < r->front_bytes.size() ? r->front_bytes[key] : 0);
  }
  const auto leased = [job, action, asked_at = core.parts.clock()](pool_core& c,
                                                                   const result<lease_reply>& reply) {
    if (reply) return take_lease(c, job, action, *reply, asked_at);
    c.unanswered[action.holder] = c.parts.clock();
    fail_lease(c, job, action.call, reply.error().code);
  };
  core.parts.calls->lease(action.holder.node, std::move(request), action.timeout,
                          back_on_strand<result<lease_reply>>(core, leased));
}

machines::usable_ways usable_ways_of(const pool_core& core, const read_job& r) {
  return {.view = r.in_place, .land = r.on_device && core.parts.landing != nullptr};
}

// A fetch on its way: which pieces have room in staging, and where. Views need none.
struct arrival {
  machines::fetch_pieces action;
  block_way by{};
  std::vector<errc> outcomes;  // by piece
  std::vector<std::size_t> fetched;
  std::vector<std::shared_ptr<const block_bytes>> places;  // by range, but of a view
};

// What a piece must prove to be while it comes in.
block::expectation expected_of(const read_job& r, const machines::fetch_pieces& action, std::size_t piece) {
  const auto& wanted = action.pieces[piece];
  return {.key = r.machine.keys()[wanted.key],
          .any_fingerprint = !r.fingerprint,  // an opaque block's reader does not know the model
          .fingerprint = r.fingerprint,
          .generation = wanted.generation,
          .incarnation = action.holder.incarnation};
}

// Came in whole and is something else.
bool did_not_prove_itself(errc outcome) {
  return outcome == errc::corrupt || outcome == errc::stale || outcome == errc::unsupported;
}

void note_coming(pool_core& core, const arrival& in, bool begins) {
  auto& coming = core.coming_bytes[in.action.holder];
  for (const auto piece : in.fetched)
    coming += begins ? in.action.pieces[piece].bytes : -in.action.pieces[piece].bytes;
  if (coming == 0) core.coming_bytes.erase(in.action.holder);
}

// Where a block was, it will be again; unless something else was there.
void note_place(pool_core& core, const read_job& r, const machines::fetch_pieces& action, std::size_t piece,
                errc outcome) {
  const auto& wanted = action.pieces[piece];
  const auto& key = r.machine.keys()[wanted.key];
  if (outcome == errc::ok) {
    if (action.lease == 0) return core.memory.used(action.holder, key);
    core.memory.learn(key, {action.holder, wanted.offset, r.whole_bytes[wanted.key], wanted.generation});
  } else if (action.lease != 0) {
    core.memory.forget(key);
    if (did_not_prove_itself(outcome)) ++core.counters.blocks_rejected;
  } else {
    core.memory.moved(key);
  }
}

void fetch_for(pool_core& core, std::uint64_t job, machines::fetch_pieces action, block_way by);

std::shared_ptr<const block_bytes> take_bytes(read_job& r, arrival& in, std::size_t range,
                                              const fetch_outcome& fetched) {
  if (in.by != block_way::view) return std::move(in.places[range]);
  return std::make_shared<const block_bytes>(fetched.views[range],
                                             r.leases.at({in.action.holder, in.action.lease}));
}

bool may_land(const pool_core& core, const machines::node_ref& holder) {
  return core.ways.choose(holder, {.view = false, .land = true}) == block_way::land;
}

void warn_of_landing(const pool_core& core, const machines::node_ref& holder, const fetch_outcome& fetched) {
  const auto failed =
      std::ranges::find_if(fetched.ranges, [](const result<void>& range) { return !range.has_value(); });
  spdlog::warn("blocks of {} do not land on the device any more: {}",
               core.cluster()->now->name_of(holder.node),
               failed == fetched.ranges.end() ? name_of(fetched.fabric) : to_string(failed->error()));
}

// By which way the same pieces are fetched now; that of `in` where they are not.
block_way next_way(pool_core& core, const read_job& r, const arrival& in, const fetch_outcome& fetched) {
  if (in.by == block_way::copy) return in.by;
  std::vector<errc> pieces;
  pieces.reserve(fetched.ranges.size());
  for (const auto& range : fetched.ranges)
    pieces.push_back(range ? errc::ok : range.error().code);
  const auto& holder = in.action.holder;
  const bool might_land = may_land(core, holder);
  const bool came = fetched.bytes != 0;
  const auto next = core.ways.judge(holder, usable_ways_of(core, r), in.by, {fetched.fabric, came, pieces});
  const bool refused = fetched.fabric == errc::unsupported && !came;
  if (in.by == block_way::land && next != in.by && !refused) {
    ++core.counters.landings_failed;
    if (might_land && !may_land(core, holder)) warn_of_landing(core, holder, fetched);
  }
  return next;
}

void accept(pool_core& core, std::uint64_t job, arrival& in, const fetch_outcome& fetched) {
  note_coming(core, in, false);
  auto* r = find(core, job);
  if (!r) return;
  if (const auto by = next_way(core, *r, in, fetched); by != in.by && !r->delivered) {
    in.places.clear();
    return fetch_for(core, job, std::move(in.action), by);
  }
  if (r->delivered) {  // too late for the reader; the machine still wants to know, to end the lease
    in.outcomes.assign(in.outcomes.size(), errc::deadline_exceeded);
    return carry_out(core, job, r->machine.on_fetched(in.action.call, in.outcomes, core.parts.clock()));
  }
  add_transfer(r->results.transfers, {core.cluster()->now->name_of(in.action.holder.node), fetched.transport,
                                      fetched.path, fetched.bytes});
  for (std::size_t range = 0; range < in.fetched.size(); ++range) {
    const auto piece = in.fetched[range];
    auto& outcome = in.outcomes[piece];
    if (range >= fetched.ranges.size() || !fetched.ranges[range]) {
      outcome = range < fetched.ranges.size() ? fetched.ranges[range].error().code : errc::internal;
    } else {
      r->results.blocks[in.action.pieces[piece].key].bytes = take_bytes(*r, in, range, fetched);
      if (in.by == block_way::land) ++core.counters.blocks_landed;
    }
    note_place(core, *r, in.action, piece, outcome);
  }
  carry_out(core, job, r->machine.on_fetched(in.action.call, in.outcomes, core.parts.clock()));
}

void fetch_for(pool_core& core, std::uint64_t job, machines::fetch_pieces action, block_way by) {
  auto in = std::make_shared<arrival>();
  in->by = by;
  fetch_order order{.node = action.holder.node,
                    .ranges = {},
                    .timeout = action.timeout,
                    .watcher = {},
                    .in_place = by == block_way::view};
  const auto blocks = by == block_way::land ? core.parts.landing->blocks : nullptr;
  if (blocks) order.landing = core.parts.landing;
  auto watcher = blocks ? nullptr : core.watchers.take();
  in->outcomes.assign(action.pieces.size(), errc::ok);
  for (std::size_t i = 0; i < action.pieces.size(); ++i) {
    const auto& piece = action.pieces[i];
    std::uint64_t local_offset = 0;
    if (by != block_way::view) {
      auto room = core.parts.room->take(piece.bytes);
      if (!room) {
        in->outcomes[i] = room.error().code;
        continue;
      }
      local_offset = room->arena_offset();
      in->places.push_back(std::make_shared<const block_bytes>(std::move(*room), blocks));
    }
    order.ranges.push_back({piece.offset, piece.bytes, local_offset});
    const auto expected = expected_of(*find(core, job), action, i);
    if (watcher)
      watcher->expect(expected);
    else
      order.expected.push_back(expected);
    in->fetched.push_back(i);
  }
  in->action = std::move(action);
  order.watcher = std::move(watcher);
  note_coming(core, *in, true);
  if (order.ranges.empty()) return accept(core, job, *in, {});
  const auto fetched = [job, in](pool_core& c, const fetch_outcome& outcome) {
    accept(c, job, *in, outcome);
  };
  core.parts.fetches->fetch(std::move(order), back_on_strand<fetch_outcome>(core, fetched));
}

void release(pool_core& core, std::uint64_t job, const machines::release_lease& action) {
  auto* r = find(core, job);
  if (r == nullptr || r->leases.erase({action.holder, action.lease}) == 0)
    core.parts.calls->release(action.holder.node, action.lease);
}

void note_done(pool_core& core, std::uint64_t job, const machines::read_done& done) {
  auto* r = find(core, job);
  auto& block = r->results.blocks[done.key];
  auto& counters = core.counters;
  if (done.outcome == machines::read_outcome::ok) {
    ++counters.blocks_read;
    block.outcome = {};
    return;
  }
  ++counters.blocks_missed;
  block.bytes.reset();
  const auto key = to_hex(r->machine.keys()[done.key]);
  block.outcome =
      done.outcome == machines::read_outcome::miss
          ? fail(errc::not_found, "no node holds block " + key)
          : fail(done.why, "block " + key + " could not be had from any holder within the deadline");
}

void carry_out(pool_core& core, std::uint64_t job, std::vector<machines::read_action> actions) {
  for (auto& action : actions) {
    std::visit(overloaded{
                   [&](machines::locate_keys& a) { locate_for(core, job, a); },
                   [&](machines::request_lease& a) { lease_for(core, job, a); },
                   [&](machines::fetch_pieces& a) {
                     const auto by = core.ways.choose(a.holder, usable_ways_of(core, *find(core, job)));
                     fetch_for(core, job, std::move(a), by);
                   },
                   [&](machines::cancel_fetch&) {},  // the fabric ends it at the fetch's own timeout
                   [&](machines::release_lease& a) { release(core, job, a); },
                   [&](machines::read_done& a) { note_done(core, job, a); },
               },
               action);
  }
  auto* r = find(core, job);
  if (!r) return;
  if (r->machine.all_done() && !std::exchange(r->delivered, true)) {
    r->done(std::make_shared<const read_results>(std::move(r->results)));
  }
  if (r->machine.finished()) core.reads.erase(job);
}

// The nearest and least loaded first; whoever let a reader wait a moment ago, last.
std::vector<std::pair<machines::node_ref, std::uint64_t>> costs_of(pool_core& core) {
  constexpr auto doubt = std::chrono::seconds{2};
  constexpr std::uint64_t of_doubt = std::uint64_t{1} << 60;
  constexpr std::uint64_t of_distance = std::uint64_t{1} << 30;  // as many bytes on their way weigh the same
  const auto now = core.parts.clock();
  std::erase_if(core.unanswered, [&](const auto& u) { return now - u.second > doubt; });
  const auto& here = *core.cluster()->now;
  const auto* own = here.find(here.self.node);
  std::vector<std::pair<machines::node_ref, std::uint64_t>> costs;
  for (const auto& member : here.view.members) {
    std::uint64_t cost = own != nullptr && member.host == own->host ? 0 : of_distance;
    if (const auto coming = core.coming_bytes.find(member.ref); coming != core.coming_bytes.end())
      cost += coming->second;
    if (core.unanswered.contains(member.ref)) cost += of_doubt;
    if (cost != 0) costs.emplace_back(member.ref, cost);
  }
  return costs;
}

machines::read_options options_for(pool_core& core, const read_order& order) {
  const auto known = core.cluster();
  const auto& now = *known->now;
  return {.deadline = order.timeout,
          .seed = core.parts.seed + core.next_job,
          .self = now.self,
          .storage_nodes = machines::with_role(now.view, static_cast<unsigned>(role::storage)),
          .costs = costs_of(core),
          .remembered = order.in_place ? std::vector<std::optional<machines::block_place>>{}
                                       : core.memory.recall(now.view, order),
          .max_keys_per_lease = wire::max_items_per_call,
          .first_guesses = core.parts.replicas};
}

}  // namespace

void start_read(pool_core& core, const read_order& order, block_pool::answered<read_outcome> done) {
  const auto job = core.next_job++;
  read_job r{.machine = machines::read_batch{order.keys, options_for(core, order)},
             .fingerprint = order.fingerprint,
             .front_bytes = order.front_bytes,
             .in_place = order.in_place,
             .on_device = order.on_device,
             .leases = {},
             .whole_bytes = std::vector<std::uint64_t>(order.keys.size()),
             .results = {},
             .done = std::move(done)};
  r.results.blocks.resize(order.keys.size());
  auto& started = core.reads.emplace(job, std::move(r)).first->second;
  carry_out(core, job, started.machine.start(core.parts.clock()));
  keep_ticking(core);
}

void tick_read(pool_core& core, std::uint64_t job) {
  if (auto* r = find(core, job)) carry_out(core, job, r->machine.tick(core.parts.clock()));
}

void on_node_down_read(pool_core& core, std::uint64_t job, const machines::node_ref& node) {
  if (auto* r = find(core, job)) carry_out(core, job, r->machine.on_node_down(node, core.parts.clock()));
}

}  // namespace weft::actors
