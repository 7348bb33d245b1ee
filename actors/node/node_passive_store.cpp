#include <weft/actors/node_passive_store.hpp>
#include <weft/block/layout.hpp>
#include <weft/engine/adaptive/page_arrivals.hpp>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

namespace weft::actors {

namespace {

constexpr std::size_t pages_of_a_write = 64;

std::span<const std::byte> payload_of(std::span<const std::byte> bytes) {
  const auto parsed = block::view::parse(bytes);
  return parsed && parsed->is_opaque() ? parsed->payload() : std::span<const std::byte>();
}

}  // namespace

// Outlives the store where the pool still has answers for it.
struct node_passive_store::state : std::enable_shared_from_this<state> {
  std::shared_ptr<block_pool> blocks;
  std::shared_ptr<staging> room;
  options how;

  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::uint64_t, std::shared_ptr<const staged_bytes>> unsent;
  std::vector<std::uint64_t> waiting;  // of those, not on their way yet
  bool writing = false;
  std::uint64_t failed_puts = 0;
  engine::page_arrivals arrivals;

  id128 key_of(std::uint64_t page) const { return {how.session, page}; }

  // One batch at a time; what comes meanwhile goes together with the next.
  void write_next(std::unique_lock<std::mutex>& lock) {
    if (writing || waiting.empty()) return;
    writing = true;
    const std::size_t count = std::min(waiting.size(), pages_of_a_write);
    std::vector<std::uint64_t> pages(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    waiting.erase(waiting.begin(), waiting.begin() + static_cast<std::ptrdiff_t>(count));
    write_order order;
    order.replicas = how.replicas;
    order.timeout = how.patience;
    for (const std::uint64_t page : pages)
      order.blocks.push_back({key_of(page), machines::item_kind::opaque, unsent.at(page)});
    lock.unlock();
    blocks->write(std::move(order), [own = shared_from_this(), pages = std::move(pages)](
                                        const result<write_outcome>& done) { own->written(pages, done); });
    lock.lock();
  }

  void written(const std::vector<std::uint64_t>& pages, const result<write_outcome>& done) {
    std::unique_lock lock(mutex);
    writing = false;
    for (std::size_t i = 0; i < pages.size(); ++i) {
      failed_puts += done && (*done)->blocks[i] ? 0 : 1;
      unsent.erase(pages[i]);
    }
    write_next(lock);
    changed.notify_all();
  }

  // places: of these pages among those asked for.
  void read(const std::vector<std::size_t>& places, const result<read_outcome>& done) {
    for (std::size_t i = 0; i < places.size(); ++i) {
      const bool here = done && (*done)->blocks[i].outcome;
      if (here)
        arrivals.deliver(places[i], payload_of((*done)->blocks[i].bytes->bytes()), *done);
      else
        arrivals.deliver(places[i], {}, nullptr);
    }
  }
};

node_passive_store::node_passive_store(std::shared_ptr<block_pool> blocks, std::shared_ptr<staging> room,
                                       const options& how)
    : state_(std::make_shared<state>()) {
  state_->blocks = std::move(blocks);
  state_->room = std::move(room);
  state_->how = how;
}

node_passive_store::~node_passive_store() {
  state_->arrivals.wait();
  std::unique_lock lock(state_->mutex);
  state_->waiting.clear();
  state_->changed.wait(lock, [this] { return !state_->writing; });
}

result<void> node_passive_store::put(std::uint64_t page, std::span<const std::byte> bytes) {
  auto& own = *state_;
  std::unique_lock lock(own.mutex);
  const auto size_bytes = block::opaque_size_bytes(bytes.size());
  auto place = own.room->take(size_bytes);
  while (!place && place.error().code == errc::out_of_space && own.writing) {
    own.changed.wait(lock);
    place = own.room->take(size_bytes);
  }
  if (!place) return tl::unexpected(place.error());
  if (auto written =
          block::write_opaque(place->bytes(), {.key = own.key_of(page), .fingerprint = {}}, bytes, 0);
      !written)
    return written;
  own.unsent[page] = std::make_shared<const staged_bytes>(std::move(*place));
  own.waiting.push_back(page);
  own.write_next(lock);
  return {};
}

void node_passive_store::begin(std::span<const std::uint64_t> pages) {
  auto& own = *state_;
  own.arrivals.expect(pages.size());
  std::vector<std::size_t> asked;
  read_order order;
  order.timeout = own.how.patience;
  {
    const std::lock_guard lock(own.mutex);
    for (std::size_t i = 0; i < pages.size(); ++i) {
      if (const auto here = own.unsent.find(pages[i]); here != own.unsent.end()) {
        own.arrivals.deliver(i, payload_of(here->second->bytes()), here->second);
        continue;
      }
      asked.push_back(i);
      order.keys.push_back(own.key_of(pages[i]));
    }
  }
  if (asked.empty()) return;
  own.blocks->read_promptly(std::move(order),
                            [state = state_, asked = std::move(asked)](const result<read_outcome>& done) {
                              state->read(asked, done);
                            });
}

bool node_passive_store::arrived() {
  return state_->arrivals.complete();
}

std::span<const engine::page_bytes> node_passive_store::wait() {
  return state_->arrivals.wait();
}

std::uint64_t node_passive_store::flush() {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait(lock, [this] { return state_->waiting.empty() && !state_->writing; });
  return state_->failed_puts;
}

}  // namespace weft::actors
