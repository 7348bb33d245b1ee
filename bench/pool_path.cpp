#include <weft/bench/pool.hpp>

#include "interleaved.hpp"
#include "machine.hpp"
#include "pool_client.hpp"
#include "pool_cluster.hpp"
#include "raw_disk.hpp"
#include "redis.hpp"
#include "scratch_folder.hpp"

#include <algorithm>
#include <barrier>
#include <cstring>
#include <deque>
#include <functional>
#include <random>
#include <thread>
#include <utility>

namespace weft::bench {
namespace {

constexpr std::size_t kib = 1024;
constexpr std::size_t mib = 1024 * kib;
constexpr std::size_t small_bytes = 64 * kib;
constexpr std::size_t large_bytes = mib;
constexpr std::size_t small_blocks = 4096;  // 256 MiB, far beyond the cache
constexpr std::size_t keys_per_lookup = 512;
constexpr std::uint64_t dram_bytes = 1024 * mib;
constexpr std::uint64_t staging_bytes = 256 * mib;
// Of one round and client.
constexpr std::size_t first_gets = 128;
constexpr std::size_t gets = 256;
constexpr std::size_t misses = 32;
constexpr std::size_t lookups = 32;
constexpr std::size_t puts = 24;
// Of all clients together.
constexpr std::size_t gets_together = 1024;
constexpr std::size_t puts_together = 160;
// Of a pool whose memory is too small.
constexpr std::uint64_t scarce_dram_bytes = 64 * mib;
constexpr std::uint64_t scarce_file_bytes = 1024 * mib;
constexpr std::size_t file_gets = 96;

id128 key_of(std::uint64_t set, std::uint64_t n) {
  std::uint64_t h = (n + 1 + (set << 40U)) * 0x9e3779b97f4a7c15ULL;
  h ^= h >> 29;
  return {h * 0xbf58476d1ce4e5b9ULL + 1, h};
}

std::string redis_key(std::uint64_t n) {
  return to_hex(key_of(0, n));
}

std::vector<std::byte> random_bytes(std::size_t bytes) {
  std::vector<std::byte> made(bytes);
  std::mt19937_64 random{bytes};
  for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
    const auto word = random();
    std::memcpy(made.data() + i, &word, sizeof word);
  }
  return made;
}

// Microseconds of single operations, round by round.
class latencies {
 public:
  void begin_round() { rounds_.emplace_back(); }
  void add(double seconds) { rounds_.back().push_back(seconds * 1e6); }

  std::vector<double> all() const {
    std::vector<double> together;
    for (const auto& round : rounds_)
      together.insert(together.end(), round.begin(), round.end());
    return together;
  }
  double p50() const { return quantile(all(), 0.5); }

  // Median over the rounds of how many times faster than the limit.
  double ratio_beside(const latencies& limit) const {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < rounds_.size() && i < limit.rounds_.size(); ++i)
      ratios.push_back(quantile(limit.rounds_[i], 0.5) / quantile(rounds_[i], 0.5));
    return median(std::move(ratios));
  }

 private:
  std::vector<std::vector<double>> rounds_;
};

template <class Operation>
result<void> time_each(latencies& into, std::size_t count, Operation operation) {
  into.begin_round();
  for (std::size_t i = 0; i < count; ++i) {
    result<void> done;
    into.add(seconds_of([&] { done = operation(i); }));
    if (!done) return done;
  }
  return {};
}

// Seconds that so many clients take together, each on its own thread with what `make` gave it.
template <class Client>
result<double> time_together(std::deque<Client>& clients, std::size_t count,
                             const std::function<result<void>(Client&, std::size_t)>& operation) {
  const auto each = count / clients.size();
  std::vector<result<void>> outcomes(clients.size());
  std::barrier together(static_cast<std::ptrdiff_t>(clients.size() + 1));
  std::vector<std::jthread> threads;
  for (std::size_t c = 0; c < clients.size(); ++c)
    threads.emplace_back([&, c] {
      together.arrive_and_wait();
      for (std::size_t i = 0; i < each && outcomes[c]; ++i)
        outcomes[c] = operation(clients[c], c * each + i);
      together.arrive_and_wait();
    });
  together.arrive_and_wait();
  const auto seconds = seconds_of([&] { together.arrive_and_wait(); });
  threads.clear();
  for (const auto& outcome : outcomes)
    if (!outcome) return tl::unexpected{outcome.error()};
  return seconds / static_cast<double>(each * clients.size());
}

class path_run {
 public:
  path_run(const pool_path_options& options, pool_member& member, const std::string& transport,
           const redis_server* redis, report& out)
      : options_(options), member_(member), transport_(transport), redis_(redis), out_(out) {}

  result<void> measure() {
    if (auto ready = prepare(); !ready) return ready;
    // A key is read for the first time only once.
    const auto rounds = std::min<unsigned>(options_.rounds, small_blocks / first_gets - 1);
    for (unsigned number = 0; number < rounds + 1; ++number) {
      if (number == 1) restart_counting();  // everybody has met everybody
      if (auto done = round(number); !done) return done;
    }
    tell_single();
    return measure_together();
  }

  result<void> measure_file(const std::filesystem::path& folder);

 private:
  pool_client client() { return pool_client{member_.node()}; }

  result<void> put_all() {
    auto writer = client();
    for (std::size_t n = 0; n < small_blocks; ++n) {
      auto staged = writer.stage(key_of(0, n), small_);
      if (!staged) return tl::unexpected{staged.error()};
      if (auto done = writer.put(*staged); !done) return done;
    }
    return {};
  }

  result<void> prepare() {
    if (auto done = put_all(); !done) return done;
    if (redis_ == nullptr) return {};
    auto connected = redis_client::connect(redis_->socket());
    if (!connected) return tl::unexpected{connected.error()};
    beside_.emplace(std::move(*connected));
    for (std::size_t n = 0; n < small_blocks; ++n)
      if (auto set = beside_->set(redis_key(n), small_); !set) return set;
    return {};
  }

  void restart_counting() {
    first_ = remembered_ = missed_ = redis_get_ = looked_up_ = redis_exists_ = {};
    put_ = put_from_memory_ = redis_set_ = copied_ = {};
  }

  result<void> round(unsigned number) {
    for (unsigned turn = 0; turn < 3; ++turn) {
      const auto which = (turn + number) % 3;
      auto done = which == 0 ? round_of_gets() : which == 1 ? round_of_lookups() : round_of_puts();
      if (!done) return done;
    }
    return {};
  }

  result<void> round_of_gets() {
    auto reader = client();
    auto done =
        time_each(first_, first_gets, [&](std::size_t) { return reader.get(key_of(0, next_unread_++)); });
    if (!done) return done;
    read_so_far_ = std::max(read_so_far_, next_unread_);
    done = time_each(remembered_, gets,
                     [&](std::size_t) { return reader.get(key_of(0, random_() % read_so_far_)); });
    if (!done) return done;
    if (beside_) {
      std::vector<std::byte> into(small_bytes);
      done = time_each(redis_get_, gets,
                       [&](std::size_t) { return beside_->get(redis_key(random_() % read_so_far_), into); });
      if (!done) return done;
    }
    return time_each(missed_, misses, [&](std::size_t) -> result<void> {
      const auto got = reader.get(key_of(1, random_()));
      if (!got && got.error().code == errc::not_found) return {};
      return got ? fail(errc::internal, "a block that nobody has put was found") : got;
    });
  }

  result<void> round_of_lookups() {
    auto reader = client();
    std::vector<id128> keys;
    std::vector<std::string> names;
    for (std::size_t i = 0; i < keys_per_lookup; ++i) {
      const auto n = random_() % small_blocks;
      keys.push_back(key_of(0, n));
      names.push_back(redis_key(n));
    }
    const auto all_there = [](const result<std::size_t>& count) -> result<void> {
      if (!count) return tl::unexpected{count.error()};
      if (*count != keys_per_lookup) return fail(errc::internal, "a lookup did not find what was put");
      return {};
    };
    auto done = time_each(looked_up_, lookups, [&](std::size_t) { return all_there(reader.lookup(keys)); });
    if (!done || !beside_) return done;
    return time_each(redis_exists_, lookups, [&](std::size_t) { return all_there(beside_->count(names)); });
  }

  result<void> round_of_puts() {
    auto writer = client();
    std::vector<id128> keys;
    std::vector<actors::block_to_write> staged;
    for (std::size_t i = 0; i < 2 * puts; ++i)
      keys.push_back(key_of(2, ++last_put_));
    for (std::size_t i = 0; i < puts; ++i) {
      auto block = writer.stage(keys[i], large_);
      if (!block) return tl::unexpected{block.error()};
      staged.push_back(std::move(*block));
    }
    auto done = time_each(put_, puts, [&](std::size_t i) { return writer.put(staged[i]); });
    if (!done) return done;
    staged.clear();
    done = time_each(put_from_memory_, puts, [&](std::size_t i) -> result<void> {
      const auto block = writer.stage(keys[puts + i], large_);
      return block ? writer.put(*block) : tl::unexpected{block.error()};
    });
    if (!done) return done;
    if (auto dropped = writer.drop(member_.system(), keys); !dropped) return dropped;
    if (beside_) {
      done = time_each(redis_set_, puts,
                       [&](std::size_t i) { return beside_->set("put" + std::to_string(i), large_); });
      if (!done) return done;
    }
    return time_each(copied_, puts, [&](std::size_t) -> result<void> {
      // Neither side is in the cache, as with a put.
      copy_at_ = (copy_at_ + large_bytes) % elsewhere_.size();
      std::memcpy(elsewhere_.data() + copy_at_, far_.data() + copy_at_, large_bytes);
      return {};
    });
  }

  result<void> measure_together();
  result<std::vector<double>> gets_of(std::size_t clients);
  result<double> puts_of(std::size_t clients);

  // -- rows

  report_row row_of(std::string what, std::string operation, std::size_t bytes, std::size_t batch,
                    const latencies& times) const {
    report_row row;
    row.name = transport_ + " " + std::move(what);
    row.operation = std::move(operation);
    row.transport = transport_;
    row.clients = 1;
    row.batch = batch;
    if (bytes != 0) {
      row.size_bytes = bytes;
      row.gb_per_s = static_cast<double>(bytes) * 1e-3 / times.p50();
    }
    row.us_p50 = times.p50();
    row.us_p99 = quantile(times.all(), 0.99);
    row.us_p999 = quantile(times.all(), 0.999);
    return row;
  }

  void set_limit(report_row& row, const latencies& times, const latencies& limit, std::string name,
                 std::size_t bytes = 0) const {
    row.limit_name = std::move(name);
    row.ratio = times.ratio_beside(limit);
    if (bytes != 0) row.limit_gb_per_s = static_cast<double>(bytes) * 1e-3 / limit.p50();
  }

  void set_redis_limit(report_row& row, const latencies& times, const latencies& limit,
                       const char* command) const {
    if (beside_) return set_limit(row, times, limit, "redis " + std::string(command) + " over a unix socket");
    row.limit_name = "redis " + std::string(command) + " (redis-server is not installed)";
  }

  void tell(report_row row) {
    if (options_.progress) options_.progress(row);
    out_.rows.push_back(std::move(row));
  }

  void tell_redis(std::string what, std::string operation, std::size_t bytes, std::size_t batch,
                  const latencies& times) {
    if (!beside_) return;
    auto row = row_of(std::move(what), std::move(operation), bytes, batch, times);
    row.name.erase(0, transport_.size() + 1);
    row.transport = "unix";
    tell(std::move(row));
  }

  void tell_single() {
    auto row = row_of("64 KiB: get, location remembered", "get", small_bytes, 1, remembered_);
    row.verified = true;
    set_redis_limit(row, remembered_, redis_get_, "GET");
    tell(std::move(row));
    row = row_of("64 KiB: get, first time", "get", small_bytes, 1, first_);
    row.verified = true;
    set_redis_limit(row, first_, redis_get_, "GET");
    tell(std::move(row));
    tell(row_of("get, miss", "get", 0, 1, missed_));
    tell_redis("redis 64 KiB: GET", "get", small_bytes, 1, redis_get_);
    row = row_of("lookup of 512 keys", "lookup", 0, keys_per_lookup, looked_up_);
    set_redis_limit(row, looked_up_, redis_exists_, "EXISTS");
    tell(std::move(row));
    tell_redis("redis: EXISTS of 512 keys", "lookup", 0, keys_per_lookup, redis_exists_);
    row = row_of("1 MiB: put of a finished block", "put", large_bytes, 1, put_);
    row.verified = true;
    set_limit(row, put_, copied_, "memcpy, one core", large_bytes);
    tell(std::move(row));
    row = row_of("1 MiB: put out of a client's memory", "put", large_bytes, 1, put_from_memory_);
    row.verified = true;
    set_limit(row, put_from_memory_, copied_, "memcpy, one core", large_bytes);
    tell(std::move(row));
    tell_redis("redis 1 MiB: SET", "put", large_bytes, 1, redis_set_);
  }

  const pool_path_options& options_;
  pool_member& member_;
  std::string transport_;
  const redis_server* redis_;
  report& out_;
  std::optional<redis_client> beside_;
  std::mt19937_64 random_{7};
  std::vector<std::byte> small_ = random_bytes(small_bytes);
  std::vector<std::byte> large_ = random_bytes(large_bytes);
  std::vector<std::byte> far_ = std::vector<std::byte>(64 * mib, std::byte{1});
  std::vector<std::byte> elsewhere_ = std::vector<std::byte>(64 * mib, std::byte{2});
  std::size_t copy_at_ = 0;
  std::size_t next_unread_ = 0;
  std::size_t read_so_far_ = 0;
  std::uint64_t last_put_ = 0;
  latencies first_, remembered_, missed_, redis_get_, looked_up_, redis_exists_;
  latencies put_, put_from_memory_, redis_set_, copied_;
};

// -- several clients ------------------------------------------------------------------------------

// Seconds of one get of the pool's, and of Redis's where there is one.
result<std::vector<double>> path_run::gets_of(std::size_t clients) {
  std::vector<double> seconds;
  std::deque<pool_client> readers;
  for (std::size_t c = 0; c < clients; ++c)
    readers.emplace_back(member_.node());
  const auto start = random_();
  auto took = time_together<pool_client>(readers, gets_together, [&](pool_client& reader, std::size_t i) {
    return reader.get(key_of(0, (start + i * 31) % small_blocks));
  });
  if (!took) return tl::unexpected{took.error()};
  seconds.push_back(*took);
  if (redis_ == nullptr) return seconds;
  struct redis_reader {
    redis_client link;
    std::vector<std::byte> into;
  };
  std::deque<redis_reader> others;
  for (std::size_t c = 0; c < clients; ++c) {
    auto link = redis_client::connect(redis_->socket());
    if (!link) return tl::unexpected{link.error()};
    others.push_back({std::move(*link), std::vector<std::byte>(small_bytes)});
  }
  took = time_together<redis_reader>(others, gets_together, [&](redis_reader& reader, std::size_t i) {
    return reader.link.get(redis_key((start + i * 31) % small_blocks), reader.into);
  });
  if (!took) return tl::unexpected{took.error()};
  seconds.push_back(*took);
  return seconds;
}

// Seconds of one put.
result<double> path_run::puts_of(std::size_t clients) {
  std::deque<pool_client> writers;
  for (std::size_t c = 0; c < clients; ++c)
    writers.emplace_back(member_.node());
  std::vector<id128> keys;
  std::vector<actors::block_to_write> staged;
  for (std::size_t i = 0; i < puts_together; ++i) {
    keys.push_back(key_of(2, ++last_put_));
    auto block = writers.front().stage(keys.back(), large_);
    if (!block) return tl::unexpected{block.error()};
    staged.push_back(std::move(*block));
  }
  auto took = time_together<pool_client>(
      writers, puts_together, [&](pool_client& writer, std::size_t i) { return writer.put(staged[i]); });
  if (!took) return took;
  if (auto dropped = writers.front().drop(member_.system(), keys); !dropped)
    return tl::unexpected{dropped.error()};
  return took;
}

result<void> path_run::measure_together() {
  struct series {
    std::vector<double> gets, puts, redis;
  };
  auto counts = options_.clients;
  std::erase(counts, 1U);
  counts.insert(counts.begin(), 1U);  // what the others are measured by
  std::vector<series> all(counts.size());
  const auto& alone = all.front();
  if (auto warm = gets_of(1); !warm) return tl::unexpected{warm.error()};
  for (std::size_t n = 0; n < small_blocks; ++n)
    if (auto got = client().get(key_of(0, n)); !got) return got;
  for (unsigned number = 0; number < options_.rounds; ++number) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      auto& into = all[i];
      const auto got = gets_of(counts[i]);
      if (!got) return tl::unexpected{got.error()};
      into.gets.push_back(got->front());
      if (got->size() > 1) into.redis.push_back(got->back());
      const auto put = puts_of(counts[i]);
      if (!put) return tl::unexpected{put.error()};
      into.puts.push_back(*put);
    }
  }
  const auto set_limit_of = [](report_row& row, const std::vector<double>& one,
                               const std::vector<double>& many) {
    if (row.clients == 1U) return;
    std::vector<double> ratios;
    for (std::size_t i = 0; i < one.size(); ++i)
      ratios.push_back(one[i] / many[i]);
    row.limit_name = "one client";
    row.ratio = median(std::move(ratios));
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    const auto clients = counts[i];
    const auto name = std::to_string(clients) + (clients == 1 ? " client" : " clients");
    const auto row_for = [&](const char* operation, std::string what, std::size_t bytes,
                             const std::vector<double>& seconds) {
      report_row row{.name = std::move(what) + name, .operation = operation};
      row.size_bytes = bytes;
      row.batch = 1;
      row.clients = clients;
      row.gb_per_s = static_cast<double>(bytes) * 1e-9 / median(seconds);
      return row;
    };
    auto row = row_for("get", transport_ + " 64 KiB: get, remembered, ", small_bytes, all[i].gets);
    row.transport = transport_;
    row.verified = true;
    set_limit_of(row, alone.gets, all[i].gets);
    tell(std::move(row));
    row = row_for("put", transport_ + " 1 MiB: put, ", large_bytes, all[i].puts);
    row.transport = transport_;
    row.verified = true;
    set_limit_of(row, alone.puts, all[i].puts);
    tell(std::move(row));
    if (all[i].redis.empty()) continue;
    row = row_for("get", "redis 64 KiB: GET, ", small_bytes, all[i].redis);
    row.transport = "unix";
    set_limit_of(row, alone.redis, all[i].redis);
    tell(std::move(row));
  }
  return {};
}

// -- what is on file alone ------------------------------------------------------------------------

result<void> path_run::measure_file(const std::filesystem::path& folder) {
  if (auto done = put_all(); !done) return done;
  constexpr std::uint64_t disk_bytes = file_gets * small_bytes;
  auto disk = raw_disk::make(folder, disk_bytes, 1);
  if (!disk) return tl::unexpected{disk.error()};
  struct alignas(4096) page {
    std::byte bytes[4096];
  };
  std::vector<page> pages(disk_bytes / sizeof(page));
  const std::span memory{pages.front().bytes, disk_bytes};
  latencies times, disk_times;
  auto reader = client();
  for (unsigned number = 0; number < options_.rounds; ++number) {
    // What was put long ago, and no key twice: memory holds a quarter of them.
    auto done = time_each(times, file_gets,
                          [&](std::size_t i) { return reader.get(key_of(0, number * file_gets + i)); });
    if (!done) return done;
    disk_times.begin_round();
    disk_times.add(seconds_of([&] { disk->read_all(memory, small_bytes); }) / file_gets);
  }
  auto row = row_of("64 KiB: get, on file", "get", small_bytes, 1, times);
  row.verified = true;
  set_limit(row, times, disk_times, "O_DIRECT read, depth 1", small_bytes);
  tell(std::move(row));
  return {};
}

}  // namespace

result<report> run_pool_path(const pool_path_options& options) {
  const scratch_folder folder(options.folder, "weft-bench-pool-");
  auto redis = redis_server::start(folder.path());
  if (!redis) return tl::unexpected{redis.error()};
  std::deque<pool_holder> holders;
  const auto add_holder = [&](holder_plan plan) -> result<void> {
    plan.folder = folder.path() / std::to_string(holders.size());
    std::filesystem::create_directory(plan.folder);
    auto holder = pool_holder::fork(plan);
    if (!holder) return tl::unexpected{holder.error()};
    holders.push_back(std::move(*holder));
    return {};
  };
  for (const auto& transport : options.transports)
    if (auto added =
            add_holder({.transport = transport, .dram_bytes = dram_bytes, .file_bytes = 0, .folder = {}});
        !added)
      return tl::unexpected{added.error()};
  if (auto added = add_holder({.transport = options.transports.front(),
                               .dram_bytes = scarce_dram_bytes,
                               .file_bytes = scarce_file_bytes,
                               .folder = {}});
      !added)
    return tl::unexpected{added.error()};
  report out;
  out.machine = {.cpu = cpu_name(), .threads = std::thread::hardware_concurrency()};
  while (!holders.empty()) {
    auto holder = std::move(holders.front());
    holders.pop_front();
    if (auto up = holder.start(); !up) return tl::unexpected{up.error()};
    auto member = pool_member::join(holder.plan(), staging_bytes);
    if (!member) return tl::unexpected{member.error()};
    path_run run{options, **member, holder.plan().transport, *redis ? &**redis : nullptr, out};
    const auto done = holder.plan().file_bytes == 0 ? run.measure() : run.measure_file(folder.path());
    if (!done) return tl::unexpected{done.error()};
  }
  return out;
}

}  // namespace weft::bench
