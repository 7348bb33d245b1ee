// Random work on a pool whose nodes die, freeze, start again, lose power and are cut off, over a network that
// loses, doubles and delays messages and spoils transfers, on memory whose bits turn over and on disks that
// do what disks do. WEFT_SEED=n repeats one run, WEFT_SEEDS=n does that many, from WEFT_FIRST_SEED on.
#include <weft/actors/errors.hpp>
#include <weft/block/layout.hpp>

#include <doctest/doctest.h>

#include "key_history.hpp"
#include "simulated_cluster.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <random>

using namespace weft;
using namespace weft::simulation;
using actors::role;
using fabric::fetch_fault;
using fabric::send_fault;

namespace {

constexpr std::uint32_t replicas = 2;
constexpr std::size_t key_count = 24;
constexpr auto read_deadline = std::chrono::milliseconds{1000};
constexpr auto longest_look = std::chrono::milliseconds{8000};  // longer than a lease
constexpr auto lease_duration = std::chrono::milliseconds{5000};
constexpr auto rounding = std::chrono::milliseconds{30};  // of ticks

const std::array<std::string, 5> names{"a", "b", "c", "d", "e"};

// Where the nodes keep their blocks.
struct ground {
  std::uint64_t dram_bytes = 1 << 20;  // no key is evicted
  std::uint64_t file_bytes = 0;
  bool disks_fail = false;

  bool roomy() const { return dram_bytes >= 1 << 20; }
};

constexpr ground roomy{};
constexpr ground tight{.dram_bytes = 96 << 10};
constexpr ground on_file{.dram_bytes = 96 << 10, .file_bytes = 1 << 20};
constexpr ground on_bad_disks{.dram_bytes = 96 << 10, .file_bytes = 64 << 10, .disks_fail = true};

cluster_plan pool_of_five(std::uint64_t seed, const ground& where = roomy) {
  cluster_plan plan{.seed = seed, .replicas = replicas, .nodes = {}};
  for (const auto& name : names)
    plan.nodes.push_back({name, {role::storage}});
  plan.tick = std::chrono::milliseconds{1};
  plan.dram_bytes = where.dram_bytes;
  plan.file_bytes = where.file_bytes;
  plan.lease_duration = lease_duration;
  plan.staging_bytes = 1 << 20;
  return plan;
}

class storm {
 public:
  storm(std::uint64_t seed, const ground& where)
      : seed_(seed), where_(where), random_(seed * 77 + 5), cluster_(pool_of_five(seed, where)) {
    REQUIRE(cluster_.run_until([&] { return cluster_.settled(); }, std::chrono::seconds{20}));
    pass(std::chrono::milliseconds{500});
  }

  // One thing after the other goes wrong while clients work; never more at once than the copies survive.
  void rage(int steps) {
    faults_ = {.lost = chance(30), .unanswered = chance(20), .doubled = chance(50), .late = chance(50)};
    for (const auto fault :
         {fetch_fault::fail, fetch_fault::lose, fetch_fault::truncate, fetch_fault::flip_bit,
          fetch_fault::late, fetch_fault::stall, fetch_fault::fail_late})
      bad_transfers_[fault] = chance(30);
    for (const auto fault : {send_fault::fail, send_fault::lose, send_fault::twice, send_fault::late})
      bad_sends_[fault] = chance(20);
    spoil();
    for (int i = 0; i < steps; ++i) {
      work();
      if (one_in(6)) change_weather();
      pass(std::chrono::milliseconds{below(150)});
    }
  }

  // Everything runs and reaches everything, for long enough to settle.
  void calm() {
    spoil_nothing();
    cluster_.heal();
    for (const auto& name : names) {
      cluster_.thaw(name);
      if (!cluster_.alive(name)) cluster_.restart(name);
    }
    pass(std::chrono::seconds{4});
    pass(longest_look);
    REQUIRE(open_jobs_ == 0);
    REQUIRE(looks_.empty());
  }

  void check_rest() {
    check_one_coordinator();
    check_books();
    check_found();
  }

  // Of all nodes, since each began its life.
  const std::map<std::string, std::int64_t>& sums() const { return sums_; }

 private:
  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  bool one_in(std::uint64_t n) { return below(n) == 0; }
  // On average half of them happen at all.
  unsigned chance(unsigned most) { return one_in(2) ? 0 : static_cast<unsigned>(below(most + 1)); }

  void pass(duration time) {
    cluster_.run_until([] { return false; }, time);
    collect();
  }

  void spoil() {
    cluster_.spoil_messages(faults_);
    cluster_.spoil_transfers(bad_transfers_);
    cluster_.spoil_sends(bad_sends_);
    if (!where_.disks_fail) return;
    cluster_.spoil_disks({.failed_read = chance(30),
                          .failed_write = chance(30),
                          .failed_sync = chance(60),
                          .lost_sync = chance(60),
                          .misdirected_write = chance(30),
                          .lost_write = chance(30),
                          .flipped_bit = chance(30)},
                         one_in(3) ? below(160) << 10 : tier::memory_device::unlimited);
  }

  void spoil_nothing() {
    cluster_.spoil_messages({});
    cluster_.spoil_transfers({});
    cluster_.spoil_sends({});
    cluster_.spoil_disks({}, tier::memory_device::unlimited);
  }

  // -- clients

  struct job {
    id128 key;
    time_point begun;
    std::shared_ptr<eventual<actors::write_outcome>> put = {};
    std::shared_ptr<eventual<actors::read_outcome>> get = {};
    std::shared_ptr<eventual<std::uint64_t>> change = {};
    std::string through = {};
  };

  struct look_in_place {
    id128 key;
    std::string through;
    time_point begun;
    time_point until;
    std::shared_ptr<const actors::block_bytes> bytes;
  };

  void work() {
    const auto& through = names[below(names.size())];
    if (!cluster_.alive(through)) return;
    job j{.key = key_of(seed_, below(key_count)), .begun = cluster_.now(), .through = through};
    const auto kind = below(100);
    if (kind < 35) {
      history_.put_begun(j.key);
      j.put = cluster_.put(through, j.key, payload_of(j.key));
    } else if (kind < 93) {
      j.get = cluster_.get(through, {j.key}, one_in(2));
    } else if (kind < 95) {
      history_.drop_begun(j.key);
      j.change = cluster_.drop(through, j.key);
    } else {
      j.change = cluster_.pin(through, j.key, one_in(2));
    }
    jobs_.push_back(std::move(j));
    ++open_jobs_;
  }

  bool is_over(const job& j) const {
    return (j.put && j.put->done()) || (j.get && j.get->done()) || (j.change && j.change->done());
  }

  void collect() {
    std::erase_if(jobs_, [&](const job& j) {
      const bool lost = !cluster_.alive(j.through) || interrupted_.contains(j.through);
      if (!is_over(j)) {
        if (j.get && !lost) CHECK(cluster_.now() - j.begun <= read_deadline + rounding);
        if (!lost_forever(j)) return false;
        --open_jobs_;
        return true;
      }
      --open_jobs_;
      if (j.put && j.put->value && (*j.put->value)->blocks[0]) {
        history_.put_acknowledged(j.key);
        if ((*j.put->value)->holders.size() < replicas) degraded_.insert(j.key);
      }
      if (j.get && j.get->value) look(j);
      return true;
    });
    std::erase_if(looks_, [&](const look_in_place& l) {
      if (cluster_.now() < l.until && cluster_.alive(l.through)) return false;
      judge_view(l);
      return true;
    });
  }

  // Copies are judged at once, what stands at its holder some time later.
  void look(const job& j) {
    const auto& block = (*j.get->value)->blocks[0];
    if (!block.outcome || !block.bytes->in_place()) return judge(j.key, block);
    looks_.push_back({j.key, j.through, cluster_.now(),
                      cluster_.now() + std::chrono::milliseconds{below(longest_look.count())}, block.bytes});
  }

  // What was read while the lease ran is the block; a reader asks afterwards, and no lease runs on by itself.
  void judge_view(const look_in_place& l) {
    const auto parsed = block::view::parse(l.bytes->bytes());
    const auto wrong = parsed ? history_.judge_hit(l.key, parsed->payload()) : to_string(parsed.error());
    if (l.bytes->intact()) REQUIRE_MESSAGE(wrong.empty(), wrong);
    if (cluster_.now() - l.begun > lease_duration) CHECK_FALSE(l.bytes->intact());
  }

  // Its node died under it.
  bool lost_forever(const job& j) const { return !cluster_.alive(j.through) || died_after(j); }
  bool died_after(const job& j) const {
    const auto at = last_death_.find(j.through);
    return at != last_death_.end() && at->second >= j.begun;
  }

  void judge(const id128& key, const actors::read_block& block) {
    if (!block.outcome) return;
    const auto parsed = block::view::parse(block.bytes->bytes());
    REQUIRE(parsed);
    const auto wrong = history_.judge_hit(key, parsed->payload());
    REQUIRE_MESSAGE(wrong.empty(), wrong);
  }

  // -- what goes wrong

  void change_weather() {
    const auto& name = names[below(names.size())];
    if (trouble_) {
      cluster_.heal();
      for (const auto& n : names) {
        cluster_.thaw(n);
        if (!cluster_.alive(n)) cluster_.restart(n);
      }
      trouble_ = false;
      spoil_nothing();
      pass(std::chrono::seconds{8});  // copies are made again before the next loss
      spoil();
      interrupted_.clear();
      return;
    }
    trouble_ = true;
    switch (below(4)) {
      case 0:
        last_death_[name] = cluster_.now();
        if (where_.file_bytes != 0 && one_in(2))
          cluster_.cut_power(name);
        else
          cluster_.kill(name);
        break;
      case 1:
        interrupted_.insert(name);
        cluster_.freeze(name);
        break;
      case 2:
        looks_.clear();  // no lease keeps a bit from turning over
        for (int bits = 0; bits < 20; ++bits)
          where_.file_bytes != 0 && one_in(2) ? cluster_.rot_on_disk(name) : cluster_.rot(name);
        break;
      default:
        cluster_.split(one_in(2) ? std::vector{name} : std::vector{name, names[below(names.size())]});
    }
  }

  // -- at rest

  template <class T>
  T answer(const std::shared_ptr<eventual<T>>& asked) {
    REQUIRE(cluster_.run_until([&] { return asked->done(); }, std::chrono::seconds{5}));
    if (asked->failure) FAIL(to_string(*asked->failure));
    return *asked->value;
  }

  void check_one_coordinator() {
    std::size_t leaders = 0;
    std::set<std::uint64_t> epochs;
    for (const auto& name : names) {
      const auto state = answer(cluster_.leadership(name));
      leaders += state.leads ? 1 : 0;
      epochs.insert(state.epoch);
    }
    CHECK(leaders == 1);
    CHECK(epochs.size() == 1);
  }

  static std::int64_t counter(const actors::node_report& report, const std::string& name) {
    for (const auto& c : report.counters) {
      if (c.name == name) return c.value;
    }
    return -1;
  }

  void check_books() {
    for (const auto& name : names) {
      CAPTURE(name);
      const auto report = answer(cluster_.report(name));
      for (const auto& c : report.counters)
        sums_[c.name] += c.value;
      CHECK(counter(report, "storage.leases") == 0);
      CHECK(counter(report, "pool.staging_used_bytes") == 0);
      if (where_.roomy()) CHECK(counter(report, "storage.evictions") == 0);
      CHECK(counter(report, "storage.reserved") == 0);
      CHECK(report.file_used_bytes <= where_.file_bytes);
      const auto used = counter(report, "storage.used_bytes");
      CHECK(used + counter(report, "storage.free_bytes") == static_cast<std::int64_t>(where_.dram_bytes));
      CHECK(used >= counter(report, "storage.bytes"));
      CHECK(used - counter(report, "storage.bytes") <= 4096 * counter(report, "storage.blocks"));
    }
  }

  // What is acknowledged and held by anyone is found from everywhere, and is whole.
  void check_found() {
    for (const auto& key : history_.kept()) {
      std::size_t copies = 0;
      for (const auto& name : names) {
        const auto held = answer(cluster_.lease(name, {key}));
        copies += held.lease != 0 ? 1 : 0;
      }
      if (where_.roomy() && !degraded_.contains(key)) CHECK(copies > 0);
      for (const auto& name : names) {
        CAPTURE(name);
        const auto read = answer(cluster_.get(name, {key}));
        // What was evicted may be found where it is remembered, until its place is taken.
        if (copies > 0 || where_.roomy()) CHECK(read->blocks[0].outcome.has_value() == (copies > 0));
        judge(key, read->blocks[0]);
      }
    }
  }

  std::map<std::string, std::int64_t> sums_;
  std::uint64_t seed_;
  ground where_;
  std::mt19937_64 random_;
  simulated_cluster cluster_;
  key_history history_;
  std::vector<job> jobs_;
  std::vector<look_in_place> looks_;
  std::size_t open_jobs_ = 0;
  message_faults faults_;
  std::map<fetch_fault, unsigned> bad_transfers_;
  std::map<send_fault, unsigned> bad_sends_;
  bool trouble_ = false;
  std::set<std::string> interrupted_;  // were frozen while jobs of theirs ran
  std::map<std::string, time_point> last_death_;
  std::set<id128> degraded_;  // acknowledged with fewer copies than asked for
};

std::pair<std::uint64_t, std::uint64_t> seeds(std::uint64_t usual) {
  if (const char* one = std::getenv("WEFT_SEED")) {
    const auto seed = std::strtoull(one, nullptr, 10);
    return {seed, seed};
  }
  std::uint64_t first = 1;
  if (const char* start = std::getenv("WEFT_FIRST_SEED")) first = std::strtoull(start, nullptr, 10);
  if (const char* many = std::getenv("WEFT_SEEDS")) usual = std::strtoull(many, nullptr, 10);
  return {first, first + usual - 1};
}

}  // namespace

std::map<std::string, std::int64_t> weather(std::uint64_t seed, const ground& where) {
  CAPTURE(seed);
  storm s{seed, where};
  s.rage(60);
  s.calm();
  s.check_rest();
  return s.sums();
}

// `met`: counters of what some of many seeds must have met.
void weathers(std::uint64_t usual, const ground& where, const std::vector<std::string>& met) {
  constexpr std::uint64_t many = 50;
  std::map<std::string, std::int64_t> sums;
  const auto [first, last] = seeds(usual);
  for (auto seed = first; seed <= last; ++seed) {
    for (const auto& [name, value] : weather(seed, where))
      sums[name] += value;
  }
  if (last - first + 1 < many) return;
  for (const auto& name : met)
    CHECK_MESSAGE(sums[name] > 0, name);
}

TEST_CASE("nothing that was acknowledged is lost or wrong, whatever happens to nodes and messages") {
  weathers(400, roomy, {"storage.rotten", "care.copies_made", "pool.blocks_rejected", "fabric.bytes_viewed"});
}

TEST_CASE("where blocks are evicted, what is left of them is found and right") {
  weathers(200, tight, {"storage.evictions"});
}

TEST_CASE("what memory has no room for is found on file, also after kills and power losses") {
  weathers(200, on_file, {"storage.demotions", "file.read", "file.recovered", "file.corrupt"});
}

TEST_CASE("whatever disks do, no wrong byte is read and what is held is found") {
  weathers(200, on_bad_disks, {"file.failed", "file.corrupt", "file.evictions", "file.full_stops"});
}

TEST_CASE("seeds that found something once") {
  // 814: of a rotten block no new copy was made where the directory had not heard yet that it was gone.
  // 343: a withdrawal that got lost left a holder in the directory that was none.
  for (const std::uint64_t seed : {814U, 343U})
    weather(seed, roomy);
}

namespace {

std::int64_t counter_of(simulated_cluster& cluster, const std::string& node, const std::string& name) {
  const auto report = cluster.report(node);
  REQUIRE(cluster.run_until([&] { return report->done(); }, std::chrono::seconds{5}));
  REQUIRE(report->value);
  const auto& counters = report->value->counters;
  const auto at = std::ranges::find(counters, name, &actors::counter::name);
  return at == counters.end() ? 0 : at->value;
}

class reading_again {
 public:
  explicit reading_again(std::uint64_t seed) : seed_(seed), cluster_(pool_of_five(seed)) {
    REQUIRE(cluster_.run_until([&] { return cluster_.settled(); }, std::chrono::seconds{20}));
    cluster_.run_until([] { return false; }, std::chrono::milliseconds{500});
  }

  void put(std::size_t number) {
    const auto done = cluster_.put("b", key(number), payload_of(key(number)));
    REQUIRE(cluster_.run_until([&] { return done->done(); }, std::chrono::seconds{10}));
    REQUIRE(done->value);
    REQUIRE((*done->value)->blocks[0]);
  }

  // Empty where it was not found.
  std::vector<std::byte> get(std::size_t number) {
    const auto done = cluster_.get("a", {key(number)});
    REQUIRE(cluster_.run_until([&] { return done->done(); }, std::chrono::seconds{2}));
    REQUIRE(done->value);
    const auto& block = (*done->value)->blocks[0];
    if (!block.outcome) return {};
    const auto parsed = block::view::parse(block.bytes->bytes());
    REQUIRE(parsed);
    return {parsed->payload().begin(), parsed->payload().end()};
  }

  id128 key(std::size_t number) const { return key_of(seed_, number); }
  simulated_cluster& cluster() { return cluster_; }

 private:
  std::uint64_t seed_;
  simulated_cluster cluster_;
};

}  // namespace

TEST_CASE("scrubbing finds a rotten block in memory and on file, and another holder's copy replaces it") {
  simulated_cluster cluster{pool_of_five(6, {.file_bytes = 1 << 20})};
  const auto pass = [&](std::chrono::milliseconds time) { cluster.run_until([] { return false; }, time); };
  REQUIRE(cluster.run_until([&] { return cluster.settled(); }, std::chrono::seconds{20}));
  pass(std::chrono::milliseconds{500});
  const auto key = key_of(6, 0);
  const auto put = cluster.put("a", key, payload_of(key));
  REQUIRE(cluster.run_until([&] { return put->done(); }, std::chrono::seconds{5}));
  REQUIRE(put->value);
  const auto holders = [&] {
    std::vector<std::string> names_of;
    for (const auto& name : names)
      if (counter_of(cluster, name, "storage.blocks") + counter_of(cluster, name, "file.blocks") != 0)
        names_of.push_back(name);
    return names_of;
  };
  REQUIRE(cluster.run_until(
      [&] {
        const auto on = holders();
        return on.size() == 2 && counter_of(cluster, on[0], "file.blocks") == 1 &&
               counter_of(cluster, on[1], "file.blocks") == 1;
      },
      std::chrono::seconds{5}));
  const auto victim = holders()[0];
  const auto other = holders()[1];
  const auto sum_of = [&](const std::string& counter) {
    std::int64_t sum = 0;
    for (const auto& name : names)
      sum += counter_of(cluster, name, counter);
    return sum;
  };

  // In memory: what is on file is right.
  cluster.rot_block(victim, key, payload_of(key).size());
  REQUIRE(cluster.run_until([&] { return counter_of(cluster, victim, "storage.rotten") == 1; },
                            std::chrono::seconds{10}));
  CHECK(counter_of(cluster, victim, "storage.blocks") == 0);
  CHECK(counter_of(cluster, victim, "care.blocks_rotten") == 0);
  CHECK(counter_of(cluster, victim, "file.blocks") == 1);

  // On file: nothing is left here, and a replica is made of the other copy.
  cluster.rot_all_data_on_disk(victim);
  REQUIRE(cluster.run_until([&] { return counter_of(cluster, victim, "care.blocks_rotten") == 1; },
                            std::chrono::seconds{10}));
  CHECK(counter_of(cluster, victim, "file.corrupt") == 1);
  REQUIRE(cluster.run_until([&] { return sum_of("care.copies_made") == 1; }, std::chrono::seconds{20}));
  CHECK(counter_of(cluster, other, "care.copies_made") == 1);
  CHECK(holders().size() == 2);
  CHECK(sum_of("pool.blocks_rejected") == 0);

  // No replica is left: dropped, counted and never served.
  for (const auto& name : names) {
    cluster.rot_all_data_on_disk(name);
    cluster.rot_block(name, key, payload_of(key).size());
  }
  REQUIRE(cluster.run_until([&] { return sum_of("care.blocks_rotten") == 3; }, std::chrono::seconds{10}));
  CHECK(holders().empty());
  for (const auto& name : names) {
    const auto read = cluster.get(name, {key});
    REQUIRE(cluster.run_until([&] { return read->done(); }, std::chrono::seconds{5}));
    REQUIRE(read->value);
    CHECK_FALSE((*read->value)->blocks[0].outcome);
  }
}

TEST_CASE("what was read once is read again without asking anybody") {
  reading_again run(3);
  for (std::size_t n = 0; n < 8; ++n)
    run.put(n);
  for (int round = 0; round < 3; ++round) {
    for (std::size_t n = 0; n < 8; ++n)
      CHECK(run.get(n) == payload_of(run.key(n)));
  }
  CHECK(counter_of(run.cluster(), "a", "pool.blocks_remembered") == 16);
  CHECK(counter_of(run.cluster(), "a", "pool.blocks_moved") == 0);
}

TEST_CASE("a block that was dropped through another node is not found where it is remembered") {
  reading_again run(4);
  run.put(0);
  REQUIRE(run.get(0) == payload_of(run.key(0)));
  const auto dropped = run.cluster().drop("c", run.key(0));
  REQUIRE(run.cluster().run_until([&] { return dropped->done(); }, std::chrono::seconds{5}));
  CHECK(run.get(0).empty());
  CHECK(counter_of(run.cluster(), "a", "pool.blocks_moved") == 1);
  run.put(0);  // and again, perhaps elsewhere
  CHECK(run.get(0) == payload_of(run.key(0)));
}

TEST_CASE("a block whose remembered holder died comes from the other one") {
  reading_again run(5);
  for (std::size_t n = 0; n < 12; ++n)
    run.put(n);
  for (std::size_t n = 0; n < 12; ++n)
    REQUIRE(run.get(n) == payload_of(run.key(n)));
  run.cluster().kill("d");
  for (std::size_t n = 0; n < 12; ++n)
    CHECK(run.get(n) == payload_of(run.key(n)));
}

// They were announced while their bytes came in, and these did not.
TEST_CASE("the directory forgets a holder that could not take a block") {
  reading_again run(7);
  run.cluster().spoil_transfers({{fabric::fetch_fault::flip_bit, 1000}});
  std::vector<id128> keys;
  for (std::size_t n = 0; n < 8; ++n) {
    keys.push_back(run.key(n));
    const auto done = run.cluster().put("b", keys.back(), payload_of(keys.back()));
    REQUIRE(run.cluster().run_until([&] { return done->done(); }, std::chrono::seconds{10}));
  }
  // All that could be taken is what "b" took of itself.
  const auto only_b_holds = [&] {
    const auto found = run.cluster().locate("a", keys);
    run.cluster().run_until([&] { return found->done(); }, std::chrono::seconds{2});
    return found->value && std::ranges::all_of(found->value->keys, [&](const actors::located_key& key) {
             return key.holders.size() <= 1;
           });
  };
  CHECK(run.cluster().run_until(only_b_holds, std::chrono::seconds{2}));
  CHECK(counter_of(run.cluster(), "a", "storage.blocks") == 0);
  run.cluster().spoil_transfers({});
  run.put(8);
  CHECK(run.get(8) == payload_of(run.key(8)));
}
