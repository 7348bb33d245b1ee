// Reading where it was read before: no question, no state machine, no strand; the header decides.
#include "../transfers.hpp"
#include "pool_state.hpp"

#include <algorithm>

namespace weft::actors {

// -- memory ---------------------------------------------------------------------------------------

std::optional<machines::block_place> read_memory::recall(const machines::view& view, const read_order& order,
                                                         std::size_t key) {
  auto place = places_.recall(order.keys[key]);
  if (!place) return place;
  if (!machines::find(view, place->holder)) {
    places_.forget(order.keys[key]);
    return std::nullopt;
  }
  const std::uint64_t front = key < order.front_bytes.size() ? order.front_bytes[key] : 0;
  if (front > place->bytes) return std::nullopt;
  if (front != 0) place->bytes = front;
  return place;
}

std::optional<std::vector<machines::block_place>> read_memory::recall_all(const machines::view& view,
                                                                          const read_order& order) {
  std::vector<machines::block_place> places;
  places.reserve(order.keys.size());
  const std::lock_guard lock{mutex_};
  for (std::size_t key = 0; key < order.keys.size(); ++key) {
    const auto place = recall(view, order, key);
    if (!place) return std::nullopt;
    places.push_back(*place);
  }
  return places;
}

std::vector<std::optional<machines::block_place>> read_memory::recall(const machines::view& view,
                                                                      const read_order& order) {
  std::vector<std::optional<machines::block_place>> places;
  places.reserve(order.keys.size());
  const std::lock_guard lock{mutex_};
  for (std::size_t key = 0; key < order.keys.size(); ++key)
    places.push_back(recall(view, order, key));
  return places;
}

void read_memory::learn(const id128& key, const machines::block_place& place) {
  const std::lock_guard lock{mutex_};
  places_.learn(key, place);
}

void read_memory::forget(const id128& key) {
  const std::lock_guard lock{mutex_};
  places_.forget(key);
}

void read_memory::moved(const id128& key) {
  const std::lock_guard lock{mutex_};
  places_.forget(key);
  ++moved_;
}

void read_memory::used(const machines::node_ref& holder, const id128& key) {
  const std::lock_guard lock{mutex_};
  used_[holder].push_back(key);
  ++remembered_;
}

std::map<machines::node_ref, std::vector<id128>> read_memory::take_used() {
  std::map<machines::node_ref, std::vector<id128>> all;
  {
    const std::lock_guard lock{mutex_};
    all.swap(used_);
  }
  for (auto& [holder, keys] : all) {
    std::ranges::sort(keys);
    keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  }
  return all;
}

void read_memory::delivered(std::size_t blocks) {
  const std::lock_guard lock{mutex_};
  delivered_ += blocks;
}

void read_memory::add_to(pool_report& report) const {
  const std::lock_guard lock{mutex_};
  report.blocks_read += delivered_;
  report.blocks_remembered += remembered_;
  report.blocks_moved += moved_;
}

// -- reading --------------------------------------------------------------------------------------

namespace {

struct reading {
  read_order order;
  block_pool::answered<read_outcome> done;
  std::vector<machines::block_place> places;  // by key
  time_point begun;
  read_results results;
  std::mutex mutex;
  std::size_t open = 0;  // holders that have not delivered
  bool failed = false;
};

// The keys at one holder.
struct share {
  machines::node_ref holder;
  std::vector<std::size_t> keys;
  std::vector<staged_bytes> room;  // by range, as the keys
};

std::vector<share> split(const std::vector<machines::block_place>& places) {
  std::vector<share> shares;
  for (std::size_t key = 0; key < places.size(); ++key) {
    auto at = std::ranges::find(shares, places[key].holder, &share::holder);
    if (at == shares.end())
      at = shares.insert(at, share{.holder = places[key].holder, .keys = {}, .room = {}});
    at->keys.push_back(key);
  }
  return shares;
}

bool make_room(pool_core& core, const reading& job, std::vector<share>& shares) {
  for (auto& part : shares) {
    for (const auto key : part.keys) {
      auto room = core.parts.room->take(job.places[key].bytes);
      if (!room) return false;
      part.room.push_back(std::move(*room));
    }
  }
  return true;
}

fetch_order order_of(pool_core& core, const reading& job, const share& part) {
  // A third, so that time is left for those who know.
  fetch_order order{.node = part.holder.node, .ranges = {}, .timeout = job.order.timeout / 3, .watcher = {}};
  auto watcher = core.watchers.take();
  for (std::size_t i = 0; i < part.keys.size(); ++i) {
    const auto& place = job.places[part.keys[i]];
    order.ranges.push_back({place.offset, place.bytes, part.room[i].arena_offset()});
    watcher->expect({.key = job.order.keys[part.keys[i]],
                     .any_fingerprint = !job.order.fingerprint,
                     .fingerprint = job.order.fingerprint,
                     .generation = place.generation,
                     .incarnation = place.holder.incarnation});
  }
  order.watcher = std::move(watcher);
  return order;
}

void finish(pool_core& core, reading& job) {
  if (!job.failed) {
    core.memory.delivered(job.results.blocks.size());
    return job.done(std::make_shared<const read_results>(std::move(job.results)));
  }
  auto rest = std::move(job.order);
  rest.timeout = std::max(duration::zero(), rest.timeout - (core.parts.clock() - job.begun));
  core.on_strand([rest = std::move(rest), done = std::move(job.done)](pool_core& c) {
    if (c.closed) return done(fail(errc::cancelled, "this node is stopping"));
    start_read(c, rest, done);
  });
}

void arrived(pool_core& core, reading& job, share& part, const fetch_outcome& fetched) {
  bool last = false;
  {
    const std::lock_guard lock{job.mutex};
    for (std::size_t i = 0; i < part.keys.size(); ++i) {
      const auto key = part.keys[i];
      if (i < fetched.ranges.size() && fetched.ranges[i]) {
        job.results.blocks[key].bytes = std::make_shared<const block_bytes>(std::move(part.room[i]));
        core.memory.used(part.holder, job.order.keys[key]);
      } else {
        core.memory.moved(job.order.keys[key]);
        job.failed = true;
      }
    }
    if (const auto now = core.cluster())
      add_transfer(job.results.transfers,
                   {now->now->name_of(part.holder.node), fetched.transport, fetched.path, fetched.bytes});
    last = --job.open == 0;
  }
  if (last) finish(core, job);
}

}  // namespace

bool read_again(pool_core& core, const read_order& order, const block_pool::answered<read_outcome>& done) {
  const auto known = core.cluster();
  // What is looked at in place needs a lease.
  if (!known || order.keys.empty() || order.in_place) return false;
  auto places = core.memory.recall_all(known->now->view, order);
  if (!places) return false;
  const auto job = std::make_shared<reading>();
  job->order = order;
  job->places = std::move(*places);
  auto shares = split(job->places);
  if (!make_room(core, *job, shares)) return false;  // the machine says so, or finds room later
  job->done = done;
  job->begun = core.parts.clock();
  job->results.blocks.resize(order.keys.size());
  job->open = shares.size();
  for (auto& part : shares) {
    auto wanted = order_of(core, *job, part);
    core.parts.fetches->fetch(
        std::move(wanted), [weak = core.weak_from_this(), job,
                            part = std::make_shared<share>(std::move(part))](const fetch_outcome& fetched) {
          if (const auto alive = weak.lock()) return arrived(*alive, *job, *part, fetched);
          job->done(fail(errc::cancelled, "this node has stopped"));
        });
  }
  keep_ticking(core);
  return true;
}

}  // namespace weft::actors
