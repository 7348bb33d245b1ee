#include <weft/engine/adaptive/page_arrivals.hpp>
#include <weft/launcher/study/pool_passive_store.hpp>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace weft::launcher::study {

// One thread talks to the cluster: what a step waits for before what is only to be put away.
struct pool_passive_store::state {
  state(client::connection& c, std::uint64_t s, std::chrono::milliseconds patience) : cluster(c), session(s) {
    how.deadline = patience;
  }

  client::connection& cluster;
  std::uint64_t session;
  client::call_options how;

  std::mutex mutex;
  std::condition_variable changed;
  struct wanted_page {
    std::uint64_t number = 0;
    std::size_t place = 0;  // among those asked for
  };
  std::deque<wanted_page> loads;
  std::deque<std::uint64_t> puts;
  std::map<std::uint64_t, std::shared_ptr<const std::vector<std::byte>>> unsent;
  engine::page_arrivals arrivals;
  bool putting = false;
  std::uint64_t failed_puts = 0;
  bool stopping = false;
  std::thread worker;

  id128 key_of(std::uint64_t page) const { return {session, page}; }

  void run() {
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [this] { return stopping || !loads.empty() || !puts.empty(); });
      if (stopping) return;
      if (!loads.empty())
        load(lock);
      else
        put(lock);
      changed.notify_all();
    }
  }

  void load(std::unique_lock<std::mutex>& lock) {
    const auto wanted = loads.front();
    loads.pop_front();
    std::shared_ptr<const std::vector<std::byte>> bytes;
    if (const auto here = unsent.find(wanted.number); here != unsent.end()) bytes = here->second;
    lock.unlock();
    if (bytes == nullptr) {
      if (auto found = cluster.get(key_of(wanted.number), how))
        bytes = std::make_shared<const std::vector<std::byte>>(std::move(found->bytes));
    }
    arrivals.deliver(wanted.place, bytes ? engine::page_bytes(*bytes) : engine::page_bytes(), bytes);
    lock.lock();
  }

  void put(std::unique_lock<std::mutex>& lock) {
    const std::uint64_t page = puts.front();
    puts.pop_front();
    const auto bytes = unsent.at(page);
    putting = true;
    lock.unlock();
    const auto done = cluster.put(key_of(page), {}, *bytes, how);
    lock.lock();
    putting = false;
    failed_puts += done ? 0 : 1;
    unsent.erase(page);
  }
};

pool_passive_store::pool_passive_store(client::connection& cluster, std::uint64_t session,
                                       std::chrono::milliseconds patience)
    : state_(std::make_unique<state>(cluster, session, patience)) {
  state_->worker = std::thread([this] { state_->run(); });
}

pool_passive_store::~pool_passive_store() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->changed.notify_all();
  state_->worker.join();
}

result<void> pool_passive_store::put(std::uint64_t page, std::span<const std::byte> bytes) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->unsent[page] = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
    state_->puts.push_back(page);
  }
  state_->changed.notify_all();
  return {};
}

void pool_passive_store::begin(std::span<const std::uint64_t> pages) {
  state_->arrivals.expect(pages.size());
  {
    const std::lock_guard lock(state_->mutex);
    for (std::size_t i = 0; i < pages.size(); ++i)
      state_->loads.push_back({pages[i], i});
  }
  state_->changed.notify_all();
}

bool pool_passive_store::arrived() {
  return state_->arrivals.complete();
}

std::span<const engine::page_bytes> pool_passive_store::wait() {
  return state_->arrivals.wait();
}

std::uint64_t pool_passive_store::flush() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->puts.empty() && !state_->putting; });
  return state_->failed_puts;
}

}  // namespace weft::launcher::study
