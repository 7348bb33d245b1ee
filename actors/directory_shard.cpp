#include <weft/actors/directory_shard.hpp>
#include <weft/actors/node_config.hpp>

#include <utility>

namespace weft::actors {

namespace {

constexpr std::size_t sweep_entries = 100'000;
constexpr std::size_t documents_per_reply = max_keys_per_message;

}  // namespace

void directory_shard::on_strand(std::function<void()> what) {
  const auto alive = shared_from_this();
  strand_.run(std::move(what));
}

void directory_shard::locate(std::vector<id128> keys, std::function<void(machines::located)> done) {
  on_strand([this, keys = std::move(keys), done = std::move(done)] { done(shard_.locate(keys, clock_())); });
}

void directory_shard::announce(announcement news, std::function<void(result<void>)> done) {
  on_strand([this, news = std::move(news), done = std::move(done)] {
    auto heard = shard_.announce(news.holder, news.keys, news.sequence);
    if (heard && news.complete_epoch != 0) shard_.announced_all(news.holder, news.complete_epoch);
    done(std::move(heard));
  });
}

void directory_shard::withdraw(withdrawal gone, std::function<void(result<void>)> done) {
  on_strand([this, gone = std::move(gone), done = std::move(done)] {
    done(shard_.withdraw(gone.holder, gone.keys, gone.sequence));
  });
}

void directory_shard::documents(std::function<void(key_list)> done) {
  on_strand(
      [this, done = std::move(done)] { done(key_list{shard_.documents(id128{}, documents_per_reply)}); });
}

// Others' keys move in, the dead move out; who holds what is said anew by the holders.
void directory_shard::adopt(const cluster_ptr& now, std::function<void()> sweep_needed) {
  on_strand([this, now, sweep_needed = std::move(sweep_needed)] {
    const auto before = now_ ? now_->view : machines::view{};
    now_ = now;
    if (now->view.epoch == before.epoch) return;
    for (const auto& gone : machines::difference(before, now->view).gone)
      shard_.drop(gone);
    for (const auto& member : now->view.members)
      shard_.readmit(member.ref);
    shard_.drop_foreign(machines::shard_map{now->view}, now->self);
    shard_.begin_rebuild(now->view.epoch,
                         machines::with_role(now->view, static_cast<unsigned>(role::storage)),
                         clock_() + liveness_timeout_);
    sweep_needed();
  });
}

void directory_shard::sweep(std::function<void(bool more)> done) {
  on_strand([this, done = std::move(done)] { done(shard_.sweep(sweep_entries)); });
}

}  // namespace weft::actors
