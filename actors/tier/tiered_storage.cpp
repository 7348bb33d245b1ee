#include <weft/tier/tiered_storage.hpp>

#include <algorithm>
#include <utility>

namespace weft::tier {
namespace {

struct alignas(sector_bytes) aligned_sector {
  sector bytes;
};

std::uint64_t whole_sectors(std::uint64_t bytes) {
  return (bytes + sector_bytes - 1) / sector_bytes * sector_bytes;
}

}  // namespace

// Keys that somebody waits for together.
struct tiered_storage::batch {
  machines::storage& slots;
  std::size_t open = 1;
  std::vector<std::uint64_t> held;  // generations
  std::function<void()> done;

  void close_one() {
    if (--open != 0) return;
    done();
    for (const std::uint64_t generation : held)
      slots.let_go(generation);
  }
};

// Blocks that are proved together.
struct tiered_storage::scrub_round {
  std::size_t open = 1;
  std::vector<id128> lost = {};
  std::function<void(std::vector<id128>)> done;

  void close_one() {
    if (--open == 0) done(std::move(lost));
  }
};

tiered_storage::tiered_storage(machines::storage& slots, std::span<std::byte> arena, device& on,
                               file_tier books, tiered_hooks hooks)
    : slots_(slots), arena_(arena), device_(on), books_(std::move(books)), hooks_(std::move(hooks)) {}

device::done tiered_storage::on_my_thread(std::function<void(errc)> then) const {
  return [post = hooks_.post, then = std::move(then)](errc outcome) {
    post([then, outcome] { then(outcome); });
  };
}

// ---- writing behind

void tiered_storage::committed(const id128& key) {
  const auto slot = slots_.find(key);
  if (!slot) return;
  if (is_on_file(key)) {
    slots_.set_backed(key, true);
    return;
  }
  slots_.set_backed(key, false);
  drop(std::span(&key, 1));  // fewer bands than there are now
  books_.enqueue({.key = key, .kind = slot->kind, .bytes = slot->bytes, .tenant = slots_.tenant_of(key)});
  pump();
}

// All that memory has of it.
bool tiered_storage::is_on_file(const id128& key) const {
  const auto slot = slots_.find(key);
  return books_.holds(key) && (!slot || books_.bytes_of(key) >= slot->bytes);
}

void tiered_storage::pump() {
  evicted_items evicted;
  while (const auto order = books_.start_write(hooks_.clock(), evicted))
    start_writing(*order);
  for (const header_order& header : evicted.headers)
    write_header(header);
  note_evicted(evicted.keys);
  start_sync();
  wake_waiting();
}

void tiered_storage::start_writing(const write_order& order) {
  const auto held = slots_.hold(order.key);
  if (!held) return books_.abandon(order.slot);     // memory let it go meanwhile
  if (whole_sectors(held->bytes) != order.bytes) {  // it lost bands meanwhile
    books_.abandon(order.slot);
    slots_.let_go(held->generation);
    books_.enqueue(
        {.key = order.key, .kind = held->kind, .bytes = held->bytes, .tenant = slots_.tenant_of(order.key)});
    return;
  }
  device_.write(area::data, order.offset, arena_.subspan(held->offset, order.bytes),
                on_my_thread([this, order, generation = held->generation](errc outcome) {
                  slots_.let_go(generation);
                  if (const auto header = books_.written(order.slot, outcome, hooks_.clock()))
                    write_header(*header);
                  pump();
                }));
}

void tiered_storage::write_header(const header_order& order) {
  auto room = std::make_shared<aligned_sector>();
  store(room->bytes, order.content);
  device_.write(area::headers, order.offset, room->bytes, on_my_thread([this, room, order](errc outcome) {
                  const auto end = books_.header_written(order.slot, outcome, hooks_.clock());
                  if (end.next) write_header(*end.next);
                  pump();
                }));
}

void tiered_storage::start_sync() {
  if (!books_.start_sync()) return;
  device_.sync(on_my_thread([this](errc outcome) {
    finish_sync(outcome);
    pump();
  }));
}

void tiered_storage::finish_sync(errc outcome) {
  const sync_outcome result = books_.synced(outcome);
  std::vector<machines::announced> back;
  for (const auto& item : result.on_file) {
    slots_.set_backed(item.key, is_on_file(item.key));
    // Else memory needed the room before this was certain, and said that it is gone.
    if (!slots_.holds(item.key)) back.push_back(item);
  }
  if (!back.empty()) hooks_.back(back);
}

void tiered_storage::note_evicted(const std::vector<id128>& keys) {
  std::vector<id128> gone;
  for (const id128& key : keys) {
    slots_.set_backed(key, false);
    if (!slots_.holds(key)) gone.push_back(key);
  }
  if (!gone.empty()) hooks_.gone(gone);
}

bool tiered_storage::takes_more() const {
  return books_.takes_more(hooks_.clock());
}

void tiered_storage::when_it_takes_more(std::function<void()> then) {
  waiting_.push_back(std::move(then));
  wake_waiting();
}

void tiered_storage::wake_waiting() {
  while (!waiting_.empty() && takes_more()) {
    const auto then = std::move(waiting_.front());
    waiting_.pop_front();
    then();
  }
}

void tiered_storage::tick() {
  pump();
}

// ---- bringing back

// In memory, though the file has it.
bool tiered_storage::is_missing(const id128& key, std::uint64_t front_bytes) const {
  if (!slots_.holds(key)) return books_.holds(key);
  if (!slots_.lost_bands(key)) return false;
  const std::uint64_t here = slots_.find(key)->bytes;
  return (front_bytes == 0 || front_bytes > here) && books_.bytes_of(key) > here;
}

bool tiered_storage::needs_promotion(std::span<const id128> keys,
                                     std::span<const std::uint64_t> front_bytes) const {
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (is_missing(keys[i], i < front_bytes.size() ? front_bytes[i] : 0)) return true;
  }
  return false;
}

void tiered_storage::promote(std::span<const id128> keys, std::span<const std::uint64_t> front_bytes,
                             std::function<void()> done) {
  const auto all =
      std::make_shared<batch>(batch{.slots = slots_, .open = 1, .held = {}, .done = std::move(done)});
  // What is there already must not make room for what comes.
  for (const id128& key : keys) {
    if (const auto slot = slots_.hold(key)) all->held.push_back(slot->generation);
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const id128& key = keys[i];
    if (!is_missing(key, i < front_bytes.size() ? front_bytes[i] : 0)) continue;
    if (const auto running = promoting_.find(key); running != promoting_.end()) {
      ++all->open;
      running->second.push_back(all);
    } else if (const auto order = books_.begin_read(key)) {
      start_reading(key, *order, all);
    }
  }
  all->close_one();
}

void tiered_storage::start_reading(const id128& key, const read_order& order,
                                   const std::shared_ptr<batch>& first) {
  const auto place = slots_.reserve(
      {.key = key, .kind = order.kind, .bytes = order.bytes, .tenant = order.tenant, .expires = false},
      hooks_.clock());
  report_gone(place.evicted);
  if (!place.trimmed.empty() && hooks_.trimmed) hooks_.trimmed(place.trimmed);
  if (place.outcome != machines::reserve_outcome::granted) {
    books_.end_read(order.slot, errc::ok);
    return;
  }
  ++first->open;
  promoting_[key].push_back(first);
  device_.read(
      area::data, order.offset, arena_.subspan(place.offset, whole_sectors(order.bytes)),
      on_my_thread([this, key, order, place](errc outcome) { finish_reading(key, order, place, outcome); }));
}

void tiered_storage::finish_reading(const id128& key, const read_order& order,
                                    const machines::reservation& place, errc outcome) {
  if (outcome == errc::ok &&
      hooks_.admit(arena_.subspan(place.offset, order.bytes), key, place.generation) != errc::ok)
    outcome = errc::corrupt;
  const read_end end = books_.end_read(order.slot, outcome);
  if (end.next) write_header(*end.next);
  if (outcome == errc::ok && !end.on_file) outcome = errc::cancelled;  // dropped meanwhile
  if (outcome == errc::ok) {
    const auto data = arena_.subspan(place.offset, order.bytes);
    slots_.commit(place.generation, hooks_.clock(),
                  hooks_.band_ends ? hooks_.band_ends(data) : std::vector<std::uint64_t>{});
    slots_.set_backed(key, is_on_file(key));
    if (order.pinned) slots_.pin(key);
  } else {
    slots_.abort(place.generation);
    slots_.set_backed(key, books_.holds(key));
    if (!slots_.holds(key)) hooks_.gone({key});
  }
  auto node = promoting_.extract(key);
  for (const auto& waiting : node.mapped()) {
    if (const auto slot = slots_.hold(key)) waiting->held.push_back(slot->generation);
    waiting->close_one();
  }
  wake_waiting();
}

// ---- proving what is on file

void tiered_storage::scrub(std::span<const id128> keys, std::function<void(std::vector<id128>)> done) {
  const auto round = std::make_shared<scrub_round>(scrub_round{.done = std::move(done)});
  for (const id128& key : keys) {
    if (const auto order = books_.begin_check(key)) start_check(key, *order, round);
  }
  round->close_one();
}

void tiered_storage::start_check(const id128& key, const read_order& order,
                                 const std::shared_ptr<scrub_round>& round) {
  const auto length = whole_sectors(order.bytes);
  auto room = std::make_shared<std::vector<aligned_sector>>(length / sector_bytes);
  const std::span bytes{room->front().bytes.data(), length};
  ++round->open;
  device_.read(area::data, order.offset, bytes,
               on_my_thread([this, key, order, room, bytes, round](errc outcome) {
                 finish_check(key, order, bytes.first(order.bytes), outcome, *round);
                 round->close_one();
               }));
}

void tiered_storage::finish_check(const id128& key, const read_order& order, std::span<const std::byte> bytes,
                                  errc outcome, scrub_round& round) {
  if (outcome == errc::ok && hooks_.prove(bytes, key) != errc::ok) outcome = errc::corrupt;
  const bool was_on_file = books_.holds(key);
  const read_end end = books_.end_read(order.slot, outcome);
  if (end.next) write_header(*end.next);
  if (!was_on_file || books_.holds(key)) return;
  slots_.set_backed(key, false);
  if (slots_.holds(key)) return committed(key);
  round.lost.push_back(key);
  hooks_.gone({key});
}

void tiered_storage::report_gone(const std::vector<machines::announced>& evicted) {
  std::vector<id128> gone;
  for (const auto& item : evicted) {
    if (!books_.holds(item.key)) gone.push_back(item.key);
  }
  if (!gone.empty()) hooks_.gone(gone);
}

std::vector<machines::announced> tiered_storage::drop(std::span<const id128> keys) {
  std::vector<machines::announced> dropped;
  for (const header_order& order : books_.drop(keys, dropped))
    write_header(order);
  return dropped;
}

}  // namespace weft::tier
