#include <weft/actors/block_pool.hpp>
#include <weft/fabric/arrival.hpp>

#include "pool_state.hpp"

#include <algorithm>
#include <atomic>
#include <optional>

namespace weft::actors {

namespace {

error not_joined() {
  return {errc::unreachable, "this node has not joined its cluster yet; try again shortly"};
}

error closing() {
  return {errc::cancelled, "this node is stopping"};
}

template <class Jobs>
std::vector<std::uint64_t> numbers_of(const Jobs& jobs) {
  std::vector<std::uint64_t> numbers;
  numbers.reserve(jobs.size());
  for (const auto& [number, job] : jobs)
    numbers.push_back(number);
  return numbers;
}

void adopt(pool_core& core, const cluster_ptr& now) {
  core.parts.calls->adopt(now);
  const auto before = core.cluster();
  auto fresh = std::make_shared<known_cluster>();
  fresh->now = now;
  fresh->shards =
      before && before->shards.epoch() == now->view.epoch ? before->shards : machines::shard_map{now->view};
  core.set_cluster(std::move(fresh));
  if (!before) return;
  for (const auto& gone : machines::difference(before->now->view, now->view).gone) {
    core.ways.forget(gone);
    for (const auto job : numbers_of(core.reads))
      on_node_down_read(core, job, gone);
    for (const auto job : numbers_of(core.writes))
      on_node_down_write(core, job, gone);
  }
}

// What was read without asking counts as used at its holder, too.
void tell_uses(pool_core& core) {
  for (auto& [holder, keys] : core.memory.take_used())
    core.parts.calls->touch(holder.node, key_list{std::move(keys)});
}

void tick(pool_core& core) {
  core.parts.calls->expire();
  for (const auto job : numbers_of(core.reads))
    tick_read(core, job);
  for (const auto job : numbers_of(core.writes))
    tick_write(core, job);
  tell_uses(core);
  core.ticking.store(false);
  if (!core.reads.empty() || !core.writes.empty()) keep_ticking(core);
}

template <class Jobs>
void cancel_all(Jobs& jobs) {
  for (auto& [number, job] : std::exchange(jobs, {}))
    if (!job.delivered) job.done(tl::unexpected{closing()});
}

// The answer to what `ask` begins, on this thread.
template <class Answer, class Ask>
result<Answer> wait_for(fabric::transport& transport, Ask ask) {
  std::optional<result<Answer>> outcome;
  fabric::arrival answer;
  const auto begin = [&] {
    ask([&](result<Answer> answered) {
      outcome.emplace(std::move(answered));
      answer.come();
    });
  };
  transport.drive(std::cref(begin), answer);
  return std::move(*outcome);
}

}  // namespace

void keep_ticking(pool_core& core) {
  if (!core.ticking.exchange(true) && core.again) core.again();
}

void pool_core::on_strand(std::function<void(pool_core&)> what) {
  const auto alive = shared_from_this();
  queue.run([this, what = std::move(what)] { what(*this); });
}

std::shared_ptr<const known_cluster> pool_core::cluster() const {
  const std::lock_guard lock{mutex_};
  return cluster_;
}

void pool_core::set_cluster(std::shared_ptr<const known_cluster> fresh) {
  const std::lock_guard lock{mutex_};
  cluster_ = std::move(fresh);
}

void locate(pool_core& core, const std::vector<id128>& keys, duration timeout,
            std::function<void(std::vector<located_key>)> done) {
  struct gathering {
    std::vector<located_key> answers;
    std::vector<std::vector<std::uint32_t>> parts;
    std::atomic<std::size_t> open{1};
    std::function<void(std::vector<located_key>)> done;

    void close_one() {
      if (--open == 0) done(std::move(answers));
    }
  };
  const auto known = core.cluster();
  const auto all = std::make_shared<gathering>();
  all->answers.assign(keys.size(), located_key{.holders = {}, .maybe = true});
  all->done = std::move(done);
  if (!known || known->shards.empty() || keys.empty()) return all->close_one();
  all->parts = known->shards.split(keys);
  for (std::size_t shard = 0; shard < all->parts.size(); ++shard) {
    const auto& part = all->parts[shard];
    for (std::size_t from = 0; from < part.size(); from += wire::max_items_per_call) {
      std::vector<id128> wanted;
      const auto end = std::min(part.size(), from + wire::max_items_per_call);
      for (auto i = from; i < end; ++i)
        wanted.push_back(keys[part[i]]);
      ++all->open;
      core.parts.calls->locate(known->shards.nodes()[shard].node, std::move(wanted), timeout,
                               [all, shard, from](result<locate_reply> reply) {
                                 const auto& indexes = all->parts[shard];
                                 for (std::size_t i = 0; reply && i < reply->keys.size(); ++i) {
                                   if (from + i < indexes.size())
                                     all->answers[indexes[from + i]] = std::move(reply->keys[i]);
                                 }
                                 all->close_one();
                               });
    }
  }
  all->close_one();
}

block_pool::block_pool(pool_parts parts) : core_(std::make_shared<pool_core>(std::move(parts))) {}

block_pool::~block_pool() {
  core_->on_strand([](pool_core& core) {
    core.closed = true;
    cancel_all(core.reads);
    cancel_all(core.writes);
  });
}

void block_pool::read(read_order order, answered<read_outcome> done) {
  if (read_again(*core_, order, done)) return;
  core_->on_strand([order = std::move(order), done = std::move(done)](pool_core& core) {
    if (core.closed) return done(tl::unexpected{closing()});
    if (!core.cluster()) return done(tl::unexpected{not_joined()});
    start_read(core, order, done);
  });
}

result<read_outcome> block_pool::read(read_order order) {
  return wait_for<read_outcome>(*core_->parts.transport,
                                [&](auto done) { read(std::move(order), std::move(done)); });
}

void block_pool::read_promptly(read_order order, answered<read_outcome> done) {
  fabric::arrival at_once;
  at_once.come();
  const auto begin = [&] { read(std::move(order), std::move(done)); };
  core_->parts.transport->drive(std::cref(begin), at_once);
}

void block_pool::write(write_order order, answered<write_outcome> done) {
  core_->on_strand([order = std::move(order), done = std::move(done)](pool_core& core) {
    if (core.closed) return done(tl::unexpected{closing()});
    if (!core.cluster()) return done(tl::unexpected{not_joined()});
    start_write(core, order, done);
  });
}

result<write_outcome> block_pool::write(write_order order) {
  return wait_for<write_outcome>(*core_->parts.transport,
                                 [&](auto done) { write(std::move(order), std::move(done)); });
}

void block_pool::locate(const std::vector<id128>& keys, duration timeout, answered<locate_reply> done) {
  if (!core_->cluster()) return done(tl::unexpected{not_joined()});
  actors::locate(*core_, keys, timeout, [done = std::move(done)](std::vector<located_key> found) {
    done(locate_reply{std::move(found)});
  });
}

result<locate_reply> block_pool::locate(const std::vector<id128>& keys, duration timeout) {
  return wait_for<locate_reply>(*core_->parts.transport,
                                [&](auto done) { locate(keys, timeout, std::move(done)); });
}

void block_pool::forget(std::vector<id128> keys) {
  core_->on_strand([keys = std::move(keys)](pool_core& core) {
    for (const auto& key : keys)
      core.memory.forget(key);
  });
}

void block_pool::report(answered<pool_report> done) {
  core_->on_strand([done = std::move(done)](pool_core& core) {
    auto report = core.counters;
    core.memory.add_to(report);
    report.staging_used_bytes = core.parts.room->used_bytes();
    done(report);
  });
}

void block_pool::adopt(const cluster_ptr& now) {
  core_->on_strand([now](pool_core& core) { actors::adopt(core, now); });
}

void block_pool::tick() {
  core_->on_strand([](pool_core& core) { actors::tick(core); });
}

void block_pool::call_for_ticks(std::function<void()> again) {
  core_->again = std::move(again);
}

}  // namespace weft::actors
