#include "node_status.hpp"

#include <weft/actors/node_actor.hpp>
#include <weft/engine/rows_away.hpp>
#include <weft/engine/step_recordings.hpp>
#include <weft/engine/written_blocks.hpp>

#include <caf/typed_event_based_actor.hpp>
#include <caf/typed_response_promise.hpp>

#include <memory>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto answer_timeout = std::chrono::milliseconds{500};

node_report describe(const machines::member& member, bool alive) {
  node_report report;
  report.name = member.name;
  report.pid = member.pid;
  report.alive = alive;
  report.incarnation = member.ref.incarnation;
  report.roles = role_names(member.roles);
  report.dram_capacity_bytes = member.capacity_bytes;
  return report;
}

void add(node_report& report, const char* name, std::uint64_t value) {
  report.counters.push_back({name, static_cast<std::int64_t>(value)});
}

void add(node_report& report, const storage_report& storage) {
  const machines::storage_stats& stats = storage.memory;
  report.file_used_bytes = storage.file_used_bytes;
  report.file_capacity_bytes = storage.file_capacity_bytes;
  report.counters.insert(report.counters.end(), storage.counters.begin(), storage.counters.end());
  report.dram_used_bytes = stats.used_bytes;
  report.dram_capacity_bytes = stats.capacity_bytes;
  add(report, "storage.blocks", stats.committed_items);
  add(report, "storage.bytes", stats.committed_bytes);
  add(report, "storage.used_bytes", stats.used_bytes);
  add(report, "storage.free_bytes", stats.free_bytes);
  add(report, "storage.reserved", stats.reserved_items);
  add(report, "storage.pinned", stats.pinned_items);
  add(report, "storage.leases", stats.leases);
  add(report, "storage.hits", stats.hits);
  add(report, "storage.misses", stats.misses);
  add(report, "storage.evictions", stats.evictions);
  add(report, "storage.demotions", stats.demotions);
  add(report, "storage.over_quota", stats.over_quota);
  add(report, "storage.relief_rounds", stats.relief_rounds);
  add(report, "storage.largest_hole_bytes", stats.largest_hole_bytes);
  add(report, "storage.banded_blocks", stats.banded_items);
  add(report, "storage.bands", stats.bands_held);
  add(report, "storage.trims", stats.trims);
  add(report, "storage.trimmed_bytes", stats.trimmed_bytes);
}

void add(node_report& report, const fabric_report& fabric) {
  report.peers = fabric.peers;
  add(report, "fabric.bytes_in", fabric.counters.bytes_in);
  add(report, "fabric.bytes_viewed", fabric.counters.bytes_viewed);
  add(report, "fabric.bytes_pushed", fabric.counters.bytes_out);
  add(report, "fabric.fetches", fabric.counters.fetches);
  add(report, "fabric.failed_fetches", fabric.counters.failed_fetches);
  add(report, "fabric.moves_cuda_memory", fabric.moves_cuda_memory ? 1 : 0);
}

void add(node_report& report, const pool_report& pool) {
  add(report, "pool.blocks_read", pool.blocks_read);
  add(report, "pool.blocks_missed", pool.blocks_missed);
  add(report, "pool.blocks_rejected", pool.blocks_rejected);
  add(report, "pool.blocks_remembered", pool.blocks_remembered);
  add(report, "pool.blocks_moved", pool.blocks_moved);
  add(report, "pool.blocks_landed", pool.blocks_landed);
  add(report, "pool.landings_failed", pool.landings_failed);
  add(report, "pool.blocks_written", pool.blocks_written);
  add(report, "pool.blocks_degraded", pool.blocks_degraded);
  add(report, "pool.staging_used_bytes", pool.staging_used_bytes);
}

void add(node_report& report, const care_report& care) {
  add(report, "care.copies_made", care.copies_made);
  add(report, "care.copies_failed", care.copies_failed);
  add(report, "care.bytes_copied", care.bytes_copied);
  add(report, "care.blocks_scrubbed", care.scrubbed_blocks);
  add(report, "care.blocks_rotten", care.rotten_blocks);
}

void add(node_report& report, const retrieval_report& retrieval) {
  add(report, "retrieval.sessions", retrieval.sessions);
  add(report, "retrieval.rankings", retrieval.rankings);
  add(report, "retrieval.blocks", retrieval.blocks);
  add(report, "retrieval.documents", retrieval.documents);
}

void add(node_report& report, const decode_report& decode) {
  add(report, "decode.sessions", decode.sessions);
  add(report, "decode.shared_sessions", decode.shared_sessions);
  add(report, "decode.bytes_read", decode.bytes_read);
  add(report, "decode.bytes_left_out", decode.bytes_left_out);
  if (!decode.grouped) return;
  add(report, "group.ranks", decode.group_ranks);
  add(report, "group.rank", decode.group_rank);
  add(report, "group.made", decode.groups_made);
  add(report, "group.asked_again", decode.asked_again);
}

void add(node_report& report, const rescoring_report& rescoring) {
  add(report, "importance.waiting", rescoring.waiting);
  add(report, "importance.done", rescoring.done);
  add(report, "importance.failed", rescoring.failed);
}

// Whoever uses it: the device is the machine's.
void add(node_report& report, const engine::compute_device& device) {
  const device::memory_size memory = device.memory->sizes();
  add(report, "device.used_bytes", memory.total_bytes - memory.free_bytes);
  add(report, "device.total_bytes", memory.total_bytes);
  const engine::step_recordings& steps = engine::recordings_of(device);
  add(report, "device.steps_recorded", steps.recorded);
  add(report, "device.steps_launched", steps.launched);
  add(report, "device.steps_refused", steps.refused);
  const engine::written_blocks& blocks = engine::blocks_of(device);
  add(report, "device.blocks_written", blocks.there);
  add(report, "device.blocks_left_to_host", blocks.here);
  const engine::rows_away& rows = engine::rows_away_of(device);
  add(report, "device.bytes_loaded_there_alone", rows.left_bytes);
  add(report, "device.bytes_brought_home", rows.brought_bytes);
}

void add(node_report& report, const mailbox_meter& meter) {
  add(report, "mailbox.messages", meter.messages());
  add(report, "mailbox.bytes", meter.bytes());
  add(report, "mailbox.largest_bytes", meter.largest_bytes());
}

// One report that several answers fill in. Its actor ends with it.
template <class Report>
struct gathering {
  Report report;
  std::size_t open = 1;
  caf::typed_response_promise<Report> promise;
  caf::scheduled_actor* gatherer = nullptr;

  void close_one() {
    if (--open != 0) return;
    promise.deliver(std::move(report));
    gatherer->quit();
  }
};

template <class Answer, class Actor>
void ask(node_gatherer::pointer self, const Actor& whom, const std::shared_ptr<gathering<node_report>>& all) {
  if (!whom) return;
  ++all->open;
  self->request(whom, answer_timeout, status_atom_v)
      .then(
          [all](const Answer& answer) {
            add(all->report, answer);
            all->close_one();
          },
          [all](const caf::error&) { all->close_one(); });
}

}  // namespace

node_gatherer spawn_node_gatherer(caf::actor_system& system, status_parts parts) {
  return system.spawn(
      [parts = std::move(parts)](node_gatherer::pointer self) -> node_gatherer::behavior_type {
        return {[self, parts](status_atom) -> caf::result<node_report> {
          auto all = std::make_shared<gathering<node_report>>();
          all->report = describe(parts.self, true);
          add(all->report, mailbox_meter::of_process());
          if (parts.device) add(all->report, *parts.device);
          all->promise = self->make_response_promise<node_report>();
          all->gatherer = self;
          ask<storage_report>(self, parts.storage, all);
          ask<fabric_report>(self, parts.fabric, all);
          ask<pool_report>(self, parts.pool, all);
          ask<care_report>(self, parts.care, all);
          ask<retrieval_report>(self, parts.retrieval, all);
          ask<decode_report>(self, parts.decode, all);
          ask<rescoring_report>(self, parts.rescoring, all);
          auto promise = all->promise;
          all->close_one();
          return promise;
        }};
      });
}

cluster_gatherer spawn_cluster_gatherer(caf::actor_system& system, std::uint64_t epoch,
                                        std::vector<status_source> nodes) {
  return system.spawn(
      [epoch, nodes = std::move(nodes)](cluster_gatherer::pointer self) -> cluster_gatherer::behavior_type {
        return {[self, epoch, nodes](status_atom) -> caf::result<cluster_report> {
          auto all = std::make_shared<gathering<cluster_report>>();
          all->report.epoch = epoch;
          all->promise = self->make_response_promise<cluster_report>();
          all->gatherer = self;
          for (std::size_t i = 0; i < nodes.size(); ++i) {
            all->report.nodes.push_back(describe(nodes[i].member, false));
            if (!nodes[i].node) continue;
            ++all->open;
            self->request(nodes[i].node, answer_timeout * 2, status_atom_v)
                .then(
                    [all, i](const node_report& report) {
                      all->report.nodes[i] = report;
                      all->close_one();
                    },
                    [all](const caf::error&) { all->close_one(); });
          }
          auto promise = all->promise;
          all->close_one();
          return promise;
        }};
      });
}

}  // namespace weft::actors
