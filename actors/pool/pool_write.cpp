#include "pool_state.hpp"

#include <algorithm>
#include <variant>

namespace weft::actors {

namespace {

void carry_out(pool_core& core, std::uint64_t job, std::vector<machines::write_action> actions);

write_job* find(pool_core& core, std::uint64_t job) {
  const auto found = core.writes.find(job);
  return found == core.writes.end() ? nullptr : &found->second;
}

void put_answered(pool_core& core, std::uint64_t job, std::uint64_t call, std::vector<errc> outcomes) {
  if (auto* w = find(core, job))
    carry_out(core, job, w->machine.on_put(call, std::move(outcomes), core.parts.clock()));
}

// What the node answered, by item.
std::vector<errc> outcomes_of(const result<offer_reply>& reply, std::size_t items) {
  if (!reply) return std::vector<errc>(items, reply.error().code);
  std::vector<errc> outcomes;
  for (const auto code : reply->outcomes)
    outcomes.push_back(static_cast<errc>(code));
  outcomes.resize(items, errc::internal);
  return outcomes;
}

void put(pool_core& core, std::uint64_t job, const machines::put_items& action) {
  offer what{.writer = core.cluster()->now->self,
             .blocks = {},
             .timeout_ns = static_cast<std::uint64_t>(action.timeout.count()),
             .tenant = core.parts.tenant,
             .background = false,
             .replace = find(core, job)->order.replace};
  for (const auto item : action.items) {
    const auto& block = find(core, job)->order.blocks[item];
    what.blocks.push_back({block.key, block.kind, block.bytes->arena_offset(), block.bytes->size_bytes()});
  }
  const auto answered = [job, call = action.call, items = action.items.size()](
                            pool_core& c, const result<offer_reply>& reply) {
    put_answered(c, job, call, outcomes_of(reply, items));
  };
  core.parts.calls->offer_to(action.node.node, std::move(what), action.timeout,
                             back_on_strand<result<offer_reply>>(core, answered));
}

void note_done(pool_core& core, std::uint64_t job, const machines::write_done& done) {
  auto* w = find(core, job);
  auto& results = w->results;
  for (const auto& holder : done.holders) {
    const auto name = core.cluster()->now->name_of(holder.node);
    if (std::find(results.holders.begin(), results.holders.end(), name) == results.holders.end())
      results.holders.push_back(name);
  }
  if (done.outcome != machines::write_outcome::failed) {
    ++core.counters.blocks_written;
    if (done.outcome == machines::write_outcome::degraded) ++core.counters.blocks_degraded;
    return;
  }
  results.blocks[done.item] =
      fail(done.why, "no storage node took block " + to_hex(w->order.blocks[done.item].key));
}

void carry_out(pool_core& core, std::uint64_t job, std::vector<machines::write_action> actions) {
  for (auto& action : actions) {
    if (const auto* items = std::get_if<machines::put_items>(&action)) put(core, job, *items);
    if (const auto* done = std::get_if<machines::write_done>(&action)) note_done(core, job, *done);
  }
  auto* w = find(core, job);
  if (!w) return;
  if (w->machine.all_done() && !std::exchange(w->delivered, true)) {
    w->done(std::make_shared<const write_results>(std::move(w->results)));
  }
  if (w->machine.finished()) core.writes.erase(job);
}

}  // namespace

void start_write(pool_core& core, write_order order, block_pool::answered<write_outcome> done) {
  const auto job = core.next_job++;
  std::vector<machines::write_item> items;
  for (const auto& block : order.blocks)
    items.push_back({block.key, block.bytes->size_bytes(), block.placed_by});
  const machines::write_options options{
      .deadline = order.timeout,
      .replicas = order.replicas,
      .storage_nodes = machines::with_role(core.cluster()->now->view, static_cast<unsigned>(role::storage))};
  write_job w{.machine = machines::write_batch{std::move(items), options},
              .order = std::move(order),
              .results = {},
              .done = std::move(done)};
  w.results.blocks.resize(w.order.blocks.size());
  auto& started = core.writes.emplace(job, std::move(w)).first->second;
  carry_out(core, job, started.machine.start(core.parts.clock()));
  keep_ticking(core);
}

void tick_write(pool_core& core, std::uint64_t job) {
  if (auto* w = find(core, job)) carry_out(core, job, w->machine.tick(core.parts.clock()));
}

void on_node_down_write(pool_core& core, std::uint64_t job, const machines::node_ref& node) {
  if (auto* w = find(core, job)) carry_out(core, job, w->machine.on_node_down(node, core.parts.clock()));
}

}  // namespace weft::actors
