#include "pool_file.hpp"

#include <weft/block/layout.hpp>
#include <weft/tier/open.hpp>
#include <weft/tier/tiered_storage.hpp>

#include "interleaved.hpp"
#include "raw_disk.hpp"
#include "scratch_folder.hpp"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>

namespace weft::bench {
namespace {

constexpr std::uint64_t block_bytes = std::uint64_t{1} << 20;
constexpr unsigned depth = 32;

struct alignas(tier::sector_bytes) page {
  tier::sector bytes;
};

id128 key_of(std::uint64_t n) {
  return {n * 0x9e3779b97f4a7c15ULL + 1, n * 0xbf58476d1ce4e5b9ULL + 1};
}

// What a storage node does with its file tier, on this thread.
class tier_load {
 public:
  tier_load(tier::opened_tier opened, std::uint64_t blocks)
      : blocks_(blocks),
        on_(std::move(opened.on)),
        arena_(blocks * block_bytes / tier::sector_bytes),
        slots_({.base_offset = 0, .capacity_bytes = blocks * block_bytes, .lower_tier = true}),
        below_(slots_, bytes(), *on_, std::move(opened.books), hooks()) {}

  // New blocks in memory, not yet on file.
  void fill_memory() {
    forget_all();
    for (std::uint64_t i = 0; i < blocks_; ++i) {
      const id128 key = key_of(++last_key_);
      const auto place = slots_.reserve({.key = key, .bytes = block_bytes}, {});
      const auto room = bytes().subspan(place.offset, block_bytes);
      if (payload_.empty()) make_payload();
      (void)block::write_opaque(room, {.key = key, .fingerprint = {}}, payload_, 1);
      slots_.commit(place.generation, {});
    }
  }

  void write_behind() {
    const auto before = below_.books().stats().items;
    for (std::uint64_t n = last_key_ - blocks_ + 1; n <= last_key_; ++n)
      below_.committed(key_of(n));
    while (below_.books().stats().items < before + blocks_)
      run_one();
  }

  void empty_memory() { slots_.drop(keys()); }

  void bring_back(bool verified) {
    verified_ = verified;
    bool done = false;
    const auto wanted = keys();
    below_.promote(wanted, {}, [&] { done = true; });
    while (!done)
      run_one();
  }

  std::uint64_t held() const { return slots_.stats().committed_items; }

 private:
  std::span<std::byte> bytes() { return {arena_.front().bytes.data(), arena_.size() * tier::sector_bytes}; }

  std::vector<id128> keys() const {
    std::vector<id128> all;
    for (std::uint64_t n = last_key_ - blocks_ + 1; n <= last_key_; ++n)
      all.push_back(key_of(n));
    return all;
  }

  void forget_all() {
    if (last_key_ == 0) return;
    slots_.drop(keys());
    below_.drop(keys());
    while (below_.books().stats().used_bytes != 0)
      run_one();
  }

  void make_payload() {
    payload_.resize(block_bytes - block::opaque_size_bytes(0));
    std::mt19937_64 random(1);
    for (std::size_t i = 0; i + 8 <= payload_.size(); i += 8) {
      const std::uint64_t word = random();
      std::memcpy(payload_.data() + i, &word, 8);
    }
  }
  void run_one() {
    std::function<void()> next;
    {
      std::unique_lock lock{mutex_};
      changed_.wait(lock, [&] { return !posted_.empty(); });
      next = std::move(posted_.front());
      posted_.pop_front();
    }
    next();
  }

  tier::tiered_hooks hooks() {
    return {.clock = [] { return time_point{}; },
            .post =
                [this](std::function<void()> work) {
                  const std::lock_guard lock{mutex_};
                  posted_.push_back(std::move(work));
                  changed_.notify_one();
                },
            .admit =
                [this](std::span<std::byte> block, const id128& key, std::uint64_t) {
                  if (!verified_) return errc::ok;
                  const auto parsed = block::view::parse(block);
                  return parsed && parsed->id().key == key && parsed->verify_bands() ? errc::ok
                                                                                     : errc::corrupt;
                },
            .prove = [](std::span<const std::byte>, const id128&) { return errc::ok; },
            .gone = [](const std::vector<id128>&) {},
            .back = [](const std::vector<machines::announced>&) {}};
  }

  std::uint64_t blocks_;
  std::uint64_t last_key_ = 0;
  bool verified_ = false;
  std::vector<std::byte> payload_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> posted_;
  std::unique_ptr<tier::device> on_;
  std::vector<page> arena_;
  machines::storage slots_;
  tier::tiered_storage below_;
};

struct sample {
  std::vector<double> seconds, limit_seconds, ratios;

  void add(double time, double limit) {
    seconds.push_back(time);
    limit_seconds.push_back(limit);
    ratios.push_back(limit / time);
  }

  report_row row(std::string name, std::string operation, double gigabytes, std::string limit) const {
    report_row r;
    r.name = std::move(name);
    r.operation = std::move(operation);
    r.transport = "file";
    r.gb_per_s = gigabytes / median(seconds);
    r.limit_name = std::move(limit);
    r.limit_gb_per_s = gigabytes / median(limit_seconds);
    r.ratio = median(ratios);
    return r;
  }
};

tier::file_tier_options options_for(std::uint64_t bytes) {
  return {.capacity_bytes = bytes, .queue_bytes = bytes, .depth = depth};
}

// As long as the data, so that both take about as long.
result<report_row> measure_scan(const pool_parts_options& options, const std::filesystem::path& folder,
                                raw_disk& raw, std::span<std::byte> memory) {
  const std::uint64_t slots = options.file_bytes / tier::sector_bytes;
  const auto fresh = [] { return id128{1, 1}; };
  {
    auto opened = tier::open_tier(folder, options_for(options.file_bytes), fresh);
    if (!opened) return tl::make_unexpected(opened.error());
    std::vector<page> headers(slots);
    for (std::uint64_t i = 0; i < slots; ++i) {
      tier::store(headers[i].bytes, {.slot = i,
                                     .tier = {1, 1},
                                     .key = key_of(i),
                                     .sequence = i + 1,
                                     .place = i * tier::sector_bytes,
                                     .bytes = 4000});
    }
    const std::span all{headers.front().bytes.data(), slots * tier::sector_bytes};
    for (std::uint64_t at = 0; at < all.size(); at += block_bytes) {
      opened->on->write(tier::area::headers, tier::sector_bytes + at,
                        all.subspan(at, std::min<std::uint64_t>(block_bytes, all.size() - at)), [](errc) {});
    }
    opened->on.reset();  // waits for them
  }
  sample scans;
  for (unsigned round = 0; round < options.rounds; ++round) {
    auto on = tier::open_file_device(folder, options.file_bytes, {.depth = depth});
    if (!on) return tl::make_unexpected(on.error());
    tier::file_tier books(options_for(options.file_bytes), {1, 1});
    const double time = seconds_of([&] { tier::recover(**on, books); });
    if (books.stats().recovered != slots) return fail(errc::internal, "the scan did not find every header");
    scans.add(time, seconds_of([&] { raw.read_all(memory, block_bytes); }));
  }
  return scans.row("file tier, scan of " + std::to_string(slots) + " headers", "scan",
                   static_cast<double>(options.file_bytes) * 1e-9, "O_DIRECT read of 1 MiB pieces, depth 32");
}

}  // namespace

result<std::vector<report_row>> measure_file_tier(const pool_parts_options& options) {
  const std::uint64_t blocks = options.file_bytes / block_bytes;
  const scratch_folder folder(options.folder, "weft-bench-tier-");
  auto raw = raw_disk::make(options.folder, options.file_bytes, depth);
  if (!raw) return tl::make_unexpected(raw.error());
  std::vector<page> pages(options.file_bytes / tier::sector_bytes);
  const std::span memory{pages.front().bytes.data(), options.file_bytes};

  std::vector<report_row> rows;
  {
    auto opened = tier::open_tier(folder.path(), options_for(2 * options.file_bytes), [] {
      return id128{1, 1};
    });
    if (!opened) return tl::make_unexpected(opened.error());
    tier_load load(std::move(*opened), blocks);
    sample writes, reads, verified;
    for (unsigned round = 0; round < options.rounds + 1; ++round) {
      load.fill_memory();
      const double write = seconds_of([&] { load.write_behind(); });
      const double raw_write = seconds_of([&] { raw->write_all(memory, block_bytes); });
      load.empty_memory();
      const double read = seconds_of([&] { load.bring_back(false); });
      const double raw_read = seconds_of([&] { raw->read_all(memory, block_bytes); });
      load.empty_memory();
      const double verified_read = seconds_of([&] { load.bring_back(true); });
      if (load.held() != blocks) return fail(errc::internal, "blocks that were on file did not come back");
      if (round == 0) continue;  // the files' places are being found
      writes.add(write, raw_write);
      reads.add(read, raw_read);
      verified.add(verified_read, raw_read);
    }
    const double gigabytes = static_cast<double>(options.file_bytes) * 1e-9;
    rows.push_back(writes.row("file tier, blocks written and durable", "put", gigabytes,
                              "O_DIRECT write and fdatasync, depth 32"));
    rows.push_back(reads.row("file tier, blocks brought back, not verified", "fetch", gigabytes,
                             "O_DIRECT read, depth 32"));
    rows.back().verified = false;
    rows.push_back(verified.row("file tier, blocks brought back, verified", "fetch", gigabytes,
                                "O_DIRECT read, depth 32"));
    rows.back().verified = true;
    for (report_row& row : rows)
      row.size_bytes = block_bytes;
  }
  const auto second = folder.path() / "scan";
  auto scan = measure_scan(options, second, *raw, memory);
  if (!scan) return tl::make_unexpected(scan.error());
  rows.push_back(std::move(*scan));
  return rows;
}

}  // namespace weft::bench
