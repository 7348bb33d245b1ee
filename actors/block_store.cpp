#include <weft/actors/block_store.hpp>
#include <weft/block/layout.hpp>
#include <weft/tier/open.hpp>
#include <weft/tier/tiered_storage.hpp>

#include "tenants.hpp"

#include <algorithm>

namespace weft::actors {

namespace {

constexpr std::size_t evictions_per_tick = 4096;
// In bytes of blocks: without a manifest all blocks of its document are lost.
constexpr std::uint64_t manifest_recompute_cost = 64ULL << 20;

errc code_of(machines::reserve_outcome outcome) {
  switch (outcome) {
    case machines::reserve_outcome::granted:
    case machines::reserve_outcome::already_have:
      return errc::ok;
    case machines::reserve_outcome::out_of_space:
    case machines::reserve_outcome::over_quota:
      return errc::out_of_space;
    case machines::reserve_outcome::refused:
      break;
  }
  return errc::invalid_argument;
}

std::vector<id128> keys_of(const std::vector<machines::announced>& items) {
  std::vector<id128> keys;
  keys.reserve(items.size());
  for (const auto& item : items)
    keys.push_back(item.key);
  return keys;
}

// The header and its tables, in front of all that is there; checksums of the rows are another matter. A block
// that lost its last bands is one, too.
errc is_block(const block::view& parsed, const id128& key) {
  return parsed.id().key == key && parsed.bands_present() != 0 ? errc::ok : errc::corrupt;
}

// Of what is there of a block of several bands; empty for any other.
std::vector<std::uint64_t> band_ends_of(const block::view& parsed) {
  std::vector<std::uint64_t> ends;
  if (parsed.is_opaque() || parsed.band_count() < 2) return ends;
  for (std::uint32_t band = 0; band < parsed.bands_present(); ++band)
    ends.push_back(parsed.end_of_band(band));
  return ends;
}

errc proof_of(std::span<const std::byte> bytes, const id128& key) {
  const auto parsed = block::view::parse(bytes);
  if (!parsed) return parsed.error().code;
  if (const auto form = is_block(*parsed, key); form != errc::ok) return form;
  return parsed->verify_bands() ? errc::ok : errc::corrupt;
}

machines::storage make_slots(const node_config& config) {
  const auto share = [&](std::uint32_t percent) { return config.dram_bytes / 100 * percent; };
  machines::storage slots(
      {.base_offset = config.staging_bytes,
       .capacity_bytes = config.dram_bytes,
       .high_watermark_bytes = config.high_watermark_percent < 100 ? share(config.high_watermark_percent) : 0,
       .low_watermark_bytes = share(config.low_watermark_percent),
       .lower_tier = !config.file_folder.empty()},
      policies::make_eviction(config.eviction, config.dram_bytes));
  for (const auto& [tenant, bytes] : config.quota_bytes)
    slots.set_quota(tenant_number(tenant), bytes);
  return slots;
}

}  // namespace

// An offer on its way: which of its blocks are being fetched into which reservations.
struct block_store::intake {
  offer what;
  std::vector<errc> outcomes;                   // by block
  std::vector<std::size_t> fetched;             // block of each range
  std::vector<machines::reservation> reserved;  // by range
  std::vector<machines::announced> announced;   // early
  std::uint64_t announced_epoch = 0;
  bool heard = true;  // by every shard
  unsigned open = 1;  // of the fetch and the announcement
  answered<offer_reply> done;

  void answer() const {
    offer_reply reply;
    for (const auto outcome : outcomes)
      reply.outcomes.push_back(static_cast<std::uint8_t>(outcome));
    done(std::move(reply));
  }
};

std::vector<id128> block_store::announced_in_vain(const intake& job) {
  std::vector<id128> keys;
  for (const auto index : job.fetched)
    if (job.outcomes[index] != errc::ok) keys.push_back(job.what.blocks[index].key);
  return keys;
}

block_store::block_store(const node_config& config, store_parts parts)
    : parts_(std::move(parts)), lease_duration_(config.lease_duration), slots_(make_slots(config)) {}

block_store::~block_store() = default;

void block_store::on_strand(std::function<void()> what) {
  const auto alive = shared_from_this();
  strand_.run(std::move(what));
}

void block_store::work_on(node_fetches::executor where) {
  on_strand([this, where = std::move(where)] {
    work_ = where;
    if (parts_.file) make_tier();
  });
}

// Hooks run on the strand, as all of the tier does.
void block_store::make_tier() {
  tier::tiered_hooks hooks{
      .clock = parts_.clock,
      .post =
          [store = weak_from_this(), work = work_](std::function<void()> what) {
            work([store, what = std::move(what)] {
              if (const auto alive = store.lock()) alive->on_strand(what);
            });
          },
      .admit = [this](std::span<std::byte> bytes, const id128& key,
                      std::uint64_t generation) { return prove_and_stamp(bytes, key, generation); },
      .prove = [](std::span<const std::byte> bytes, const id128& key) { return proof_of(bytes, key); },
      .band_ends =
          [](std::span<const std::byte> bytes) {
            const auto parsed = block::view::parse(bytes);
            return parsed ? band_ends_of(*parsed) : std::vector<std::uint64_t>{};
          },
      .gone = [this](const std::vector<id128>& keys) { withdraw(keys); },
      .trimmed = [this](const std::vector<machines::trimmed_block>& blocks) { carry_out(blocks); },
      .back = [this](const std::vector<machines::announced>& items) { announce(items, [](bool) {}); }};
  below_ = std::make_unique<tier::tiered_storage>(slots_, parts_.arena, *parts_.file->on,
                                                  std::move(parts_.file->books), std::move(hooks));
}

// -- taking blocks in -----------------------------------------------------------------------------

void block_store::take(offer what, answered<offer_reply> done) {
  auto job = std::make_shared<intake>();
  job->what = std::move(what);
  job->done = std::move(done);
  on_strand([this, job] {
    if (!now_ || !now_->in_good_standing)
      return job->done(fail(errc::unreachable, "this storage node is cut off from its cluster"));
    if (below_ && !below_->takes_more()) {
      below_->when_it_takes_more([this, job] { reserve(job); });
    } else {
      reserve(job);
    }
  });
}

void block_store::reserve(const intake_ptr& job) {
  fetch_order order{
      .node = job->what.writer.node, .ranges = {}, .timeout = duration{job->what.timeout_ns}, .watcher = {}};
  std::vector<id128> evicted;
  auto watcher = watchers_.take();
  for (std::size_t i = 0; i < job->what.blocks.size(); ++i) {
    const auto& block = job->what.blocks[i];
    auto place = slots_.reserve(
        {.key = block.key,
         .kind = block.kind,
         .bytes = block.bytes,
         .tenant = job->what.tenant,
         .recompute_cost = block.kind == machines::item_kind::manifest ? manifest_recompute_cost : 0,
         .may_evict = !job->what.background,
         .replace = job->what.replace},
        parts_.clock());
    for (const auto& gone : place.evicted)
      evicted.push_back(gone.key);
    carry_out(place.trimmed);
    job->outcomes.push_back(code_of(place.outcome));
    if (place.outcome != machines::reserve_outcome::granted) continue;
    order.ranges.push_back(
        {.remote_offset = block.offset, .length_bytes = block.bytes, .local_offset = place.offset});
    watcher->expect({.key = block.key, .any_fingerprint = true, .any_life = true});
    job->fetched.push_back(i);
    job->reserved.push_back(std::move(place));
  }
  withdraw(evicted);
  if (!order.ranges.empty()) {
    order.watcher = std::move(watcher);
    fetch(job, std::move(order));
  }
  announce_early(job);
}

void block_store::fetch(const intake_ptr& job, fetch_order order) {
  ++job->open;
  parts_.fetches->fetch(std::move(order), [store = weak_from_this(), job](fetch_outcome fetched) {
    const auto alive = store.lock();
    if (!alive) return;
    alive->on_strand([here = alive.get(), job, fetched = std::move(fetched)] {
      here->admit_all(job, fetched);
      here->close_one(job);
    });
  });
}

// While the bytes come in, so that the writer does not wait for one after the other. Who asks meanwhile is
// told by this store that it is not there yet.
void block_store::announce_early(const intake_ptr& job) {
  for (std::size_t i = 0; i < job->outcomes.size(); ++i) {
    const auto& block = job->what.blocks[i];
    if (job->outcomes[i] != errc::ok) continue;
    job->announced.push_back({block.key, block.kind});
    ++coming_[block.key].offers;
  }
  job->announced_epoch = shards_.epoch();
  announce(job->announced, [store = weak_from_this(), job](bool heard) {
    const auto alive = store.lock();
    if (!alive) return;
    alive->on_strand([here = alive.get(), job, heard] {
      job->heard = heard;
      here->close_one(job);
    });
  });
}

// Whether any of it was withdrawn since: another offer of the same block failed, or an older copy was
// evicted.
bool block_store::end_of_coming(const std::vector<machines::announced>& blocks) {
  bool withdrawn = false;
  for (const auto& block : blocks) {
    const auto at = coming_.find(block.key);
    withdrawn = withdrawn || at->second.withdrawn;
    if (--at->second.offers == 0) coming_.erase(at);
  }
  return withdrawn;
}

void block_store::admit_all(const intake_ptr& job, const fetch_outcome& fetched) {
  for (std::size_t range = 0; range < job->fetched.size(); ++range) {
    const auto index = job->fetched[range];
    if (range < fetched.ranges.size() && fetched.ranges[range]) {
      job->outcomes[index] = admit(job->what.blocks[index], job->reserved[range], job->what.replace);
    } else {
      slots_.abort(job->reserved[range].generation);
      job->outcomes[index] =
          range < fetched.ranges.size() ? fetched.ranges[range].error().code : errc::internal;
    }
  }
}

// What is a shard only since then, or was told otherwise, is told before the writer is; one that did not hear
// it hears it again, and if not that, then everything.
void block_store::close_one(const intake_ptr& job) {
  if (--job->open != 0) return;
  const bool withdrawn = end_of_coming(job->announced);
  withdraw_absent(announced_in_vain(*job));
  if (withdrawn || job->announced_epoch != shards_.epoch())
    return announce(held_of(job->announced), [job](bool) { job->answer(); });
  if (!job->heard) announce(held_of(job->announced), [](bool) {});
  job->answer();
}

// The bytes of one range are here, and proved themselves while they came in: stamp, commit.
errc block_store::admit(const offered_block& block, const machines::reservation& place, bool replace) {
  // A reservation that ran out may have become someone else's place.
  if (!slots_.is_reserved(place.generation)) return errc::deadline_exceeded;
  const auto bytes = parts_.arena.subspan(place.offset, block.bytes);
  const auto parsed = block::view::parse(bytes);
  auto proof = parsed ? is_block(*parsed, block.key) : parsed.error().code;
  if (proof == errc::ok && !block::stamp(bytes, place.generation, now_ ? now_->self.incarnation : 0))
    proof = errc::corrupt;
  if (proof != errc::ok) {
    slots_.abort(place.generation);
    return proof;
  }
  const auto before = replace ? slots_.find(block.key) : std::nullopt;
  const auto outcome = slots_.commit(place.generation, parts_.clock(), band_ends_of(*parsed));
  if (outcome == machines::commit_outcome::unknown) return errc::deadline_exceeded;
  if (before) (void)block::stamp(parts_.arena.subspan(before->offset, before->bytes), 0, 0);
  if (below_ && replace) below_->drop({&block.key, 1});
  if (below_) below_->committed(block.key);
  return errc::ok;
}

// What is left of blocks that lost bands has another generation, where it lies elsewhere as well as where it
// does not: who remembers the whole block asks again. Before anything is written to where they were.
void block_store::carry_out(const std::vector<machines::trimmed_block>& trimmed) {
  for (const auto& t : trimmed) {
    const auto place = parts_.arena.subspan(t.offset, t.bytes);
    const auto before = parts_.arena.subspan(t.from, t.bytes);
    if (t.from != t.offset) {
      std::ranges::copy(before, place.begin());
      (void)block::stamp(before, 0, 0);
    }
    // What cannot be stamped does not prove itself, and readers go elsewhere.
    (void)block::stamp(place, t.generation, now_ ? now_->self.incarnation : 0);
  }
}

// That key's, and from now on this life's.
errc block_store::prove_and_stamp(std::span<std::byte> bytes, const id128& key, std::uint64_t generation) {
  if (const auto proof = proof_of(bytes, key); proof != errc::ok) return proof;
  return block::stamp(bytes, generation, now_ ? now_->self.incarnation : 0) ? errc::ok : errc::corrupt;
}

// -- leases ---------------------------------------------------------------------------------------

lease_reply block_store::grant(const lease_request& wanted) {
  auto given = slots_.lease(wanted.keys, lease_duration_, parts_.clock());
  return {now_->self, static_cast<std::uint64_t>(given.id), std::move(given.slots)};
}

void block_store::lease(lease_request wanted, answered<lease_reply> done) {
  on_strand([this, wanted = std::move(wanted), done = std::move(done)] {
    if (!now_) return done(fail(errc::unreachable, "this storage node has not joined its cluster yet"));
    if (!below_ || !below_->needs_promotion(wanted.keys, wanted.front_bytes)) return done(grant(wanted));
    below_->promote(wanted.keys, wanted.front_bytes, [this, wanted, done] { done(grant(wanted)); });
  });
}

void block_store::release(std::uint64_t lease) {
  on_strand([this, lease] { slots_.release(static_cast<machines::lease_id>(lease)); });
}

void block_store::touch(std::vector<id128> keys) {
  on_strand([this, keys = std::move(keys)] { slots_.touch(keys); });
}

// -- what is asked now and then -------------------------------------------------------------------

// Readers that remember where it was shall not find it there.
void block_store::spoil(const std::vector<id128>& keys) {
  for (const auto& key : keys) {
    if (const auto slot = slots_.find(key))
      (void)block::stamp(parts_.arena.subspan(slot->offset, slot->bytes), 0, 0);
  }
}

// Which of them were held, in memory or on file.
std::vector<id128> block_store::drop_held(const std::vector<id128>& keys) {
  spoil(keys);
  auto dropped = keys_of(slots_.drop(keys));
  if (!below_) return dropped;
  for (const auto& item : below_->drop(keys)) {
    if (std::ranges::find(dropped, item.key) == dropped.end()) dropped.push_back(item.key);
  }
  return dropped;
}

void block_store::drop(std::vector<id128> keys, answered<std::uint64_t> done) {
  on_strand([this, keys = std::move(keys), done = std::move(done)] {
    const auto dropped = drop_held(keys);
    withdraw(dropped);
    done(std::uint64_t{dropped.size()});
  });
}

// Pins of clients are a state, not a count. False where the key is not held.
bool block_store::set_pinned(const id128& key, bool pinned) {
  const bool on_file = below_ && below_->books().set_pinned(key, pinned);
  const auto slot = slots_.find(key);
  if (!slot) return on_file;
  if (slot->pinned == pinned) return true;
  return pinned ? slots_.pin(key) : slots_.unpin(key);
}

bool block_store::is_pinned(const id128& key) const {
  const auto slot = slots_.find(key);
  return (slot && slot->pinned) || (below_ && below_->books().pinned(key));
}

void block_store::pin(bool pinned, std::vector<id128> keys, answered<std::uint64_t> done) {
  on_strand([this, pinned, keys = std::move(keys), done = std::move(done)] {
    const auto changed =
        std::ranges::count_if(keys, [&](const id128& key) { return set_pinned(key, pinned); });
    done(static_cast<std::uint64_t>(changed));
  });
}

void block_store::pinned(std::vector<id128> keys, answered<key_list> done) {
  on_strand([this, keys = std::move(keys), done = std::move(done)] {
    key_list kept;
    for (const auto& key : keys) {
      if (is_pinned(key)) kept.keys.push_back(key);
    }
    done(std::move(kept));
  });
}

void block_store::sizes(std::vector<id128> keys, answered<held_sizes> done) {
  on_strand([this, keys = std::move(keys), done = std::move(done)] {
    held_sizes held;
    for (const auto& key : keys) {
      const auto slot = slots_.find(key);
      const auto on_file = below_ ? below_->books().bytes_of(key) : 0;
      held.bytes.push_back(std::max(slot ? slot->bytes : 0, on_file));
    }
    done(std::move(held));
  });
}

// What is on file alone comes behind what is in memory. An empty page would be the end.
held_page block_store::page_of(std::uint64_t cursor, std::size_t limit) const {
  constexpr std::uint64_t on_file = std::uint64_t{1} << 63;
  held_page page{.items = {}, .next_cursor = cursor};
  if ((cursor & on_file) == 0) {
    for (const auto& item : slots_.held(page.next_cursor, limit)) {
      const auto slot = slots_.find(item.key);
      page.items.push_back({item.key, item.kind, slot ? slot->bytes : 0, slot ? slot->tenant : 0});
    }
    if (!page.items.empty() || !below_) return page;
    page.next_cursor = on_file;
  }
  if (!below_) return page;
  auto place = page.next_cursor & ~on_file;
  const auto& books = below_->books();
  while (page.items.empty()) {
    const auto found = books.held(place, limit);
    if (found.empty()) break;
    for (const auto& item : found) {
      if (!slots_.holds(item.key))
        page.items.push_back({item.key, item.kind, books.bytes_of(item.key), books.tenant_of(item.key)});
    }
  }
  page.next_cursor = place | on_file;
  return page;
}

void block_store::list_held(std::uint64_t cursor, std::size_t limit, answered<held_page> done) {
  on_strand([this, cursor, limit, done = std::move(done)] { done(page_of(cursor, limit)); });
}

// Drops from memory what does not prove itself, and what is just being written of it. Which of these are not
// on file.
std::vector<id128> block_store::drop_rotten(const std::vector<id128>& keys) {
  std::vector<id128> rotten;
  for (const auto& key : keys) {
    const auto slot = slots_.find(key);
    if (slot && proof_of(parts_.arena.subspan(slot->offset, slot->bytes), key) != errc::ok)
      rotten.push_back(key);
  }
  slots_.drop(rotten);
  rotten_copies_ += rotten.size();
  std::erase_if(rotten, [&](const id128& key) { return below_ && below_->books().holds(key); });
  if (below_) below_->drop(rotten);
  withdraw(rotten);
  return rotten;
}

void block_store::prove(std::vector<id128> keys, answered<key_list> done) {
  on_strand([this, keys = std::move(keys), done = std::move(done)] {
    auto rotten = drop_rotten(keys);
    if (!below_) return done(key_list{std::move(rotten)});
    below_->scrub(keys, [rotten = std::move(rotten), done](const std::vector<id128>& lost) mutable {
      rotten.insert(rotten.end(), lost.begin(), lost.end());
      done(key_list{std::move(rotten)});
    });
  });
}

storage_report block_store::report_now() const {
  storage_report all{.memory = slots_.stats(), .counters = {}};
  const auto add = [&](const char* name, std::uint64_t value) {
    all.counters.push_back({name, static_cast<std::int64_t>(value)});
  };
  add("storage.rotten", rotten_copies_);
  if (!below_) return all;
  const auto file = below_->books().stats();
  all.file_used_bytes = file.used_bytes;
  all.file_capacity_bytes = file.capacity_bytes;
  add("file.blocks", file.items);
  add("file.queued_bytes", file.queued_bytes);
  add("file.written", file.written);
  add("file.read", file.read);
  add("file.recovered", file.recovered);
  add("file.evictions", file.evictions);
  add("file.corrupt", file.corrupt);
  add("file.failed", file.failed);
  add("file.retired_bytes", file.retired_bytes);
  add("file.full_stops", file.full_stops);
  return all;
}

void block_store::report(answered<storage_report> done) {
  on_strand([this, done = std::move(done)] { done(report_now()); });
}

// -- the view and the time ------------------------------------------------------------------------

// Blocks prove which life of the node they belong to: after a new life begins they are stamped anew.
void block_store::restamp_all() {
  std::vector<id128> broken;
  std::uint64_t cursor = 0;
  for (auto page = slots_.held(cursor, max_keys_per_message); !page.empty();
       page = slots_.held(cursor, max_keys_per_message)) {
    for (const auto& item : page) {
      const auto slot = slots_.find(item.key);
      if (!slot) continue;
      const auto bytes = parts_.arena.subspan(slot->offset, slot->bytes);
      if (!block::stamp(bytes, slot->generation, now_->self.incarnation)) broken.push_back(item.key);
    }
  }
  slots_.drop(broken);
}

void block_store::adopt(const cluster_ptr& now) {
  on_strand([this, now] {
    parts_.calls->adopt(now);
    const auto before = std::exchange(now_, now);
    if (before && before->self.incarnation != now->self.incarnation) restamp_all();
    if (shards_.epoch() != now->view.epoch) shards_ = machines::shard_map{now->view};
    announce_where_missing();
  });
}

void block_store::tick() {
  on_strand([this] {
    parts_.calls->expire();
    slots_.tick(parts_.clock());
    const auto relief = slots_.relieve(evictions_per_tick);
    carry_out(relief.trimmed);
    withdraw(keys_of(relief.evicted));
    if (below_) below_->tick();
    withdraw_unheard();
    announce_where_missing();
  });
}

}  // namespace weft::actors
