#include <weft/bench/pool.hpp>
#include <weft/machines/arena_allocator.hpp>
#include <weft/machines/directory.hpp>

#include "interleaved.hpp"
#include "machine.hpp"
#include "pool_file.hpp"
#include <time.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <thread>
#include <utility>

namespace weft::bench {
namespace {

constexpr std::size_t keys_per_locate = 512;

id128 key_of(std::uint64_t n) {
  std::uint64_t h = (n + 1) * 0x9e3779b97f4a7c15ULL;
  h ^= h >> 31;
  return {h, h * 0xbf58476d1ce4e5b9ULL + n};
}

// Of this thread on a core: the books wait for nothing, and other programs' turns are not theirs.
template <class Task>
double core_seconds_of(Task&& task) {
  const auto now = [] {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
  };
  const double start = now();
  task();
  return now() - start;
}

// Blocks of a bf16 model with bands dropped here and there: from 4 KiB to 2 MiB, small ones as frequent as
// large ones.
std::uint64_t ragged_bytes(std::mt19937_64& random) {
  const std::uint64_t top = std::uint64_t{4096} << (random() % 10);
  return top / 2 + random() % top;
}

// Kept at 95 % of the range: whatever does not fit though there is as much room shows what holes cost.
report_row measure_allocator(std::uint64_t operations) {
  machines::arena_allocator arena(0, std::uint64_t{4} << 30);
  std::mt19937_64 random(1);
  std::vector<machines::arena_allocator::place> taken;
  const auto free_one = [&] {
    std::swap(taken[random() % taken.size()], taken.back());
    arena.free(taken.back());
    taken.pop_back();
  };
  std::uint64_t worst_free = 0;
  const double seconds = core_seconds_of([&] {
    for (std::uint64_t i = 0; i < operations; ++i) {
      if (arena.used_bytes() >= arena.capacity_bytes() / 100 * 95) {
        free_one();
      } else if (const auto at = arena.allocate(ragged_bytes(random), 0)) {
        taken.push_back(*at);
      } else {
        worst_free = std::max(worst_free, arena.free_bytes());
        free_one();
      }
    }
  });
  report_row row;
  row.name = "arena allocator, ragged, 95 % full";
  row.operation = "allocate";
  row.per_second = static_cast<double>(operations) / seconds;
  // Nothing refused: no more than was left free anyway.
  row.lost_fraction = static_cast<double>(worst_free) / static_cast<double>(arena.capacity_bytes());
  return row;
}

void fill(machines::directory& shard, std::uint64_t entries) {
  constexpr std::uint64_t per_announcement = 30'000;
  const std::array holders{machines::node_ref{{1, 1}, 1}, machines::node_ref{{1, 2}, 1},
                           machines::node_ref{{1, 3}, 1}, machines::node_ref{{1, 4}, 1}};
  std::vector<machines::announced> keys;
  for (std::uint64_t n = 0; n < entries; ++n) {
    keys.push_back({key_of(n), machines::item_kind::block});
    if (keys.size() < per_announcement && n + 1 < entries) continue;
    (void)shard.announce(holders[n % 4], keys);
    (void)shard.announce(holders[(n + 1) % 4], keys);
    keys.clear();
  }
}

report_row measure_directory(std::uint64_t entries, unsigned rounds) {
  machines::directory shard;
  fill(shard, entries);
  std::mt19937_64 random(2);
  std::vector<std::array<id128, keys_per_locate>> batches(512);
  for (auto& batch : batches) {
    for (id128& key : batch)
      key = key_of(random() % (entries + entries / 10));  // some are not there
  }
  std::vector<double> seconds;
  for (unsigned round = 0; round < rounds; ++round) {
    seconds.push_back(core_seconds_of([&] {
      for (const auto& batch : batches)
        (void)shard.locate(batch, {});
    }));
  }
  report_row row;
  row.name = "directory shard of " + std::to_string(entries) + " keys, locate";
  row.operation = "lookup";
  row.batch = keys_per_locate;
  row.per_second = static_cast<double>(batches.size() * keys_per_locate) / median(seconds);
  row.bytes_per_entry = static_cast<double>(shard.stats().bytes) / static_cast<double>(shard.stats().entries);
  row.us_p50 = median(seconds) * 1e6 / static_cast<double>(batches.size());
  return row;
}

}  // namespace

result<report> run_pool_parts(const pool_parts_options& options) {
  report all;
  all.machine = {.cpu = cpu_name(), .threads = std::thread::hardware_concurrency()};
  const auto add = [&](report_row row) {
    if (options.progress) options.progress(row);
    all.rows.push_back(std::move(row));
  };
  add(measure_allocator(options.allocator_operations));
  add(measure_directory(options.directory_entries, options.rounds));
  auto file = measure_file_tier(options);
  if (!file) return tl::make_unexpected(file.error());
  for (report_row& row : *file)
    add(std::move(row));
  return all;
}

}  // namespace weft::bench
