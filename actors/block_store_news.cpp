// What a store tells the shards of the directory.
#include <weft/actors/block_store.hpp>
#include <weft/tier/tiered_storage.hpp>

#include <atomic>
#include <chrono>
#include <utility>

namespace weft::actors {

namespace {

constexpr auto announce_timeout = std::chrono::milliseconds{500};

}  // namespace

bool block_store::holds(const id128& key) const {
  return slots_.holds(key) || (below_ && below_->books().holds(key));
}

std::vector<machines::announced> block_store::held_of(std::vector<machines::announced> blocks) const {
  std::erase_if(blocks, [&](const machines::announced& block) { return !holds(block.key); });
  return blocks;
}

void block_store::withdraw(const std::vector<id128>& keys) {
  if (keys.empty() || shards_.empty()) return;
  for (const auto& key : keys) {
    if (const auto at = coming_.find(key); at != coming_.end()) at->second.withdrawn = true;
  }
  const auto parts = shards_.split(keys);
  for (std::size_t shard = 0; shard < parts.size(); ++shard) {
    if (parts[shard].empty()) continue;
    withdrawal gone{.holder = now_->self, .keys = {}, .sequence = ++said_};
    for (const auto index : parts[shard])
      gone.keys.push_back(keys[index]);
    auto keys_gone = gone.keys;
    parts_.calls->withdraw(
        shards_.nodes()[shard].node, std::move(gone), announce_timeout,
        [store = weak_from_this(), keys_gone = std::move(keys_gone)](const result<void>& heard) {
          const auto alive = heard ? nullptr : store.lock();
          if (!alive) return;
          alive->on_strand(
              [here = alive.get(), keys_gone] { here->unheard_.insert(keys_gone.begin(), keys_gone.end()); });
        });
  }
}

// A holder too many in the directory looks like a copy that there is not: none would be made.
void block_store::withdraw_unheard() {
  if (unheard_.empty() || shards_.empty()) return;
  const auto unheard = std::exchange(unheard_, {});
  withdraw_absent({unheard.begin(), unheard.end()});
}

// Those of them that are not held after all.
void block_store::withdraw_absent(const std::vector<id128>& keys) {
  std::vector<id128> gone;
  for (const auto& key : keys) {
    if (!holds(key)) gone.push_back(key);
  }
  withdraw(gone);
}

// A shard that missed it is told everything again at the next tick.
void block_store::tell_shard(const machines::node_ref& shard, announcement news,
                             std::function<void(bool heard)> done) {
  parts_.calls->announce(
      shard.node, std::move(news), announce_timeout,
      [store = weak_from_this(), shard, done = std::move(done)](const result<void>& heard) {
        if (const auto alive = store.lock(); alive && !heard)
          alive->on_strand([here = alive.get(), shard] { here->announced_to_.erase(shard); });
        done(heard.has_value());
      });
}

// Tells the shards and calls `done`, on any thread, when each has answered or failed to in time.
void block_store::announce(const std::vector<machines::announced>& items,
                           std::function<void(bool heard)> done) {
  if (items.empty() || shards_.empty()) return done(true);
  struct telling {
    std::atomic<std::size_t> open;
    std::atomic<bool> heard{true};
    std::function<void(bool)> done;
  };
  std::vector<id128> keys;
  keys.reserve(items.size());
  for (const auto& item : items)
    keys.push_back(item.key);
  const auto parts = shards_.split(keys);
  const auto all = std::make_shared<telling>();
  all->open = parts.size();
  all->done = std::move(done);
  const auto finish = [all](bool heard) {
    if (!heard) all->heard = false;
    if (--all->open == 0) all->done(all->heard);
  };
  for (std::size_t shard = 0; shard < parts.size(); ++shard) {
    if (parts[shard].empty()) {
      finish(true);
      continue;
    }
    announcement news{.holder = now_->self, .keys = {}, .complete_epoch = 0, .sequence = ++said_};
    for (const auto index : parts[shard])
      news.keys.push_back(items[index]);
    tell_shard(shards_.nodes()[shard], std::move(news), finish);
  }
}

// Everything that is held, to one shard, closing with the mark that it is everything.
void block_store::announce_all_to(std::size_t shard) {
  const auto owner = shards_.nodes()[shard];
  announced_to_[owner] = shards_.epoch();
  announcement news{.holder = now_->self, .keys = {}, .complete_epoch = 0, .sequence = ++said_};
  // In pages; some of it may come twice.
  const auto tell_pages_of = [&](const auto& books) {
    std::uint64_t cursor = 0;
    for (auto page = books.held(cursor, max_keys_per_message); !page.empty();
         page = books.held(cursor, max_keys_per_message)) {
      for (const auto& item : page) {
        if (shards_.shard_of(item.key) != shard) continue;
        news.keys.push_back(item);
        if (news.keys.size() < max_keys_per_message) continue;
        tell_shard(owner, news, [](bool) {});
        news.keys.clear();
      }
    }
  };
  tell_pages_of(slots_);
  if (below_) tell_pages_of(below_->books());
  news.complete_epoch = shards_.epoch();
  tell_shard(owner, std::move(news), [](bool) {});
}

// To the shards that have not heard everything for this view, or missed some of it.
void block_store::announce_where_missing() {
  if (!now_) return;
  for (std::size_t shard = 0; shard < shards_.nodes().size(); ++shard) {
    const auto said = announced_to_.find(shards_.nodes()[shard]);
    if (said == announced_to_.end() || said->second != shards_.epoch()) announce_all_to(shard);
  }
}

}  // namespace weft::actors
