// Blocks that come straight to the likeness of a device, in a network that reads without mapping.
#include <weft/device/host_device.hpp>
#include <weft/engine/host_compute_device.hpp>

#include <doctest/doctest.h>

#include "recall_cluster.hpp"

#include <memory>
#include <string>
#include <vector>

using namespace weft;
using namespace weft::simulation;

namespace {

struct model_on_device {
  model_on_device() : device(engine::host_compute_device(std::size_t{256} << 20U)) {
    auto loaded = engine::runner::load(model_folder, {.threads = 1, .device = device});
    REQUIRE_MESSAGE(loaded, to_string(loaded.error()));
    model = std::make_shared<engine::runner>(std::move(*loaded));
  }

  // Nothing is kept for the next question.
  cluster_plan plan(std::uint32_t replicas = 1) const {
    auto made = plan_of(model, replicas);
    made.device = device;
    made.wire.maps_arenas = false;
    return made;
  }
  device::host_device& likeness() const { return dynamic_cast<device::host_device&>(*device->memory); }

  std::shared_ptr<const engine::compute_device> device;
  std::shared_ptr<engine::runner> model;
};

struct stored_context {
  stored_context(simulated_cluster& cluster, const actors::scoring_wish& scoring = {}) {
    const auto context = contexts_of("kv_512", 1).front();
    for (const auto& text : context.documents) {
      const auto stored = value_of(cluster, cluster.ingest("decode", text, scoring));
      documents.push_back(stored.id);
      blocks += stored.blocks;
    }
    question = context.questions.front().first;
  }

  actors::answer ask(simulated_cluster& cluster, std::uint32_t ratio_millionths = 0) const {
    return value_of(cluster, cluster.ask("decode", asked(question, documents, ratio_millionths)));
  }

  std::vector<id128> documents;
  std::uint64_t blocks = 0;
  std::string question;
};

// Each of these ways, and no other.
template <class... Path>
bool came_by(const actors::answer& got, const Path&... path) {
  const auto used = [&](const char* one) {
    return std::ranges::any_of(got.transfers, [&](const auto& t) { return t.path == one; });
  };
  return (used(path) && ...) &&
         std::ranges::all_of(got.transfers, [&](const auto& t) { return ((t.path == path) || ...); });
}

}  // namespace

TEST_CASE("documents that passes read land on the device, and the answer is that of copies") {
  const model_on_device on;
  for (const actors::scoring_wish& scoring :
       {actors::scoring_wish{}, actors::scoring_wish{"kvzip", default_bands}}) {
    auto plan = on.plan();
    plan.lands = false;
    simulated_cluster copying{plan};
    settle(copying);
    const stored_context there(copying, scoring);
    const auto ratio = scoring.importance.empty() ? 0U : 300'000U;
    const auto uploaded = [&] { return on.likeness().counts().upload_bytes; };
    const auto before_copies = uploaded();
    const auto copied = there.ask(copying, ratio);
    const auto uploaded_of_copies = uploaded() - before_copies;
    CHECK(came_by(copied, "get"));
    CHECK(counted(copying, "decode", "pool.blocks_landed") == 0);

    simulated_cluster cluster{on.plan()};
    settle(cluster);
    const stored_context stored(cluster, scoring);
    const auto before = uploaded();
    const auto landed = stored.ask(cluster, ratio);
    CHECK(landed.tokens == copied.tokens);
    CHECK(landed.misses == 0);
    CHECK(came_by(landed, "land"));
    CHECK(moved_bytes(landed) == moved_bytes(copied));
    CHECK(static_cast<std::uint64_t>(counted(cluster, "decode", "pool.blocks_landed")) == stored.blocks);
    CHECK(stored.blocks > 0);
    CHECK(counted(cluster, "decode", "pool.staging_used_bytes") == 0);
    // Most of a block are its rows, and none of them went up.
    CHECK(uploaded() - before + moved_bytes(landed) / 2 < uploaded_of_copies);
    // What is asked for again lands again.
    CHECK(stored.ask(cluster, ratio).tokens == copied.tokens);
  }
}

TEST_CASE("where the way brings bytes otherwise, blocks come to the arena") {
  const model_on_device on;
  auto plan = on.plan();
  const char* path = "";
  SUBCASE("pushed") {
    plan.wire.way = fabric::path::push;
    path = "push";
  }
  SUBCASE("mapped") {
    plan.wire.maps_arenas = true;
    path = "view";
  }
  simulated_cluster cluster{plan};
  settle(cluster);
  const stored_context stored(cluster);
  for (int i = 0; i < 2; ++i)
    CHECK(came_by(stored.ask(cluster), path));
  CHECK(counted(cluster, "decode", "pool.blocks_landed") == 0);
  CHECK(counted(cluster, "decode", "fabric.failed_fetches") == 0);
}

TEST_CASE("rows that the plan computes anew, and those in a codec, are copied to the arena") {
  const model_on_device on;
  simulated_cluster cluster{on.plan()};
  settle(cluster);
  actors::question q;
  SUBCASE("computed") {
    const stored_context stored(cluster);
    q = asked(stored.question, stored.documents, 0);
    q.stitch = "epic(8)";
  }
  SUBCASE("in a codec") {
    const stored_context stored(
        cluster, {.importance = "kvzip", .band_millionths = {500'000, 1'000'000}, .band_codecs = {0, 1}});
    q = asked(stored.question, stored.documents, 0);
  }
  const auto got = value_of(cluster, cluster.ask("decode", q));
  CHECK(came_by(got, "get"));
  CHECK(counted(cluster, "decode", "pool.blocks_landed") == 0);
}

TEST_CASE("what lands spoilt is rejected and comes from the other holder") {
  const model_on_device on;
  std::int64_t rejected = 0;
  std::int64_t landed = 0;
  for (const std::uint64_t seed : {1U, 2U, 3U}) {
    auto plan = on.plan(2);
    plan.seed = seed;
    simulated_cluster cluster{plan};
    settle(cluster);
    const stored_context stored(cluster);
    const auto right = stored.ask(cluster);
    cluster.spoil_transfers({{fabric::fetch_fault::flip_bit, 300},
                             {fabric::fetch_fault::truncate, 100},
                             {fabric::fetch_fault::fail, 100}});
    for (int i = 0; i < 4; ++i) {
      const auto got = stored.ask(cluster);
      CHECK(got.tokens == right.tokens);
    }
    rejected += counted(cluster, "decode", "pool.blocks_rejected");
    landed += counted(cluster, "decode", "pool.blocks_landed");
    CHECK(counted(cluster, "decode", "pool.staging_used_bytes") == 0);
  }
  CHECK(rejected > 0);
  CHECK(landed > 0);
}

TEST_CASE("a holder that dies while its blocks land is replaced by the other one") {
  const model_on_device on;
  simulated_cluster cluster{on.plan(2)};
  settle(cluster);
  const stored_context stored(cluster);
  const auto right = stored.ask(cluster);
  for (const auto* holder : {"storage-1", "storage-2"}) {
    const auto late = cluster.ask("decode", asked(stored.question, stored.documents, 0));
    cluster.run_until([&] { return late->done(); }, std::chrono::milliseconds{2});
    cluster.kill(holder);
    CHECK(value_of(cluster, late).tokens == right.tokens);
    cluster.restart(holder);
    settle(cluster);
    cluster.run_until([] { return false; }, std::chrono::seconds{20});  // copies are made
  }
}

// A cluster at rest that stores a context.
struct storing_cluster {
  explicit storing_cluster(const cluster_plan& plan) : cluster(plan), stored(settled(cluster)) {}

  simulated_cluster cluster;
  stored_context stored;

 private:
  static simulated_cluster& settled(simulated_cluster& c) {
    settle(c);
    return c;
  }
};

TEST_CASE("a device that fails while blocks are proven or loaded has them fetched to the arena") {
  const model_on_device on;
  auto now = std::make_unique<storing_cluster>(on.plan());
  const auto right = now->stored.ask(now->cluster);
  const auto counter = [&](const char* name) {
    return static_cast<std::uint64_t>(counted(now->cluster, "decode", name));
  };
  std::size_t not_proven = 0;
  std::size_t not_loaded = 0;
  const auto check = [&](const eventual<actors::answer>& got, std::uint64_t landed) {
    const auto blocks = now->stored.blocks;
    if (!got.value) {
      CHECK(got.failure->code == errc::internal);
    } else {
      CHECK(got.value->tokens == right.tokens);
      not_proven += landed < blocks ? 1 : 0;
      not_loaded += landed == blocks && came_by(*got.value, "get", "land") ? 1 : 0;
    }
    CHECK(now->stored.ask(now->cluster).tokens == right.tokens);
  };
  for (std::uint64_t n = 0; n < 40; n += 3) {
    CAPTURE(n);
    const auto fails_for = [&](device::failing how, duration time) {
      auto& cluster = now->cluster;
      const auto before = counter("pool.blocks_landed");
      on.likeness().fail_at(n, how);
      const auto got = cluster.ask("decode", asked(now->stored.question, now->stored.documents, 0));
      cluster.run_until([&] { return got->done(); }, time);
      on.likeness().fail_no_more();
      REQUIRE(cluster.run_until([&] { return got->done(); }, limit));
      check(*got, counter("pool.blocks_landed") - before);
      CHECK(counter("pool.staging_used_bytes") == 0);
      // Where a proof failed, no block lands any more.
      if (counter("pool.landings_failed") > 0) now = std::make_unique<storing_cluster>(on.plan());
    };
    fails_for(device::failing::once, limit);
    fails_for(device::failing::from_then_on, limit);
    // Until the blocks are read again.
    for (const auto tenths : {6, 7, 8})
      fails_for(device::failing::from_then_on, std::chrono::microseconds{100 * tenths});
  }
  CHECK(not_proven > 0);
  CHECK(not_loaded > 0);
}

TEST_CASE("a holder whose blocks the device failed to prove is not landed from until it starts anew") {
  const model_on_device on;
  auto plan = on.plan();
  plan.file_bytes = 16 << 20;  // so that blocks outlive their holders
  storing_cluster storing(plan);
  auto& cluster = storing.cluster;
  const auto& stored = storing.stored;
  const auto right = stored.ask(cluster);
  REQUIRE(came_by(right, "land"));
  const auto failures = [&] { return counted(cluster, "decode", "pool.landings_failed"); };
  CHECK(failures() == 0);

  on.likeness().fail_at(0, device::failing::from_then_on);
  const auto unlucky = cluster.ask("decode", asked(stored.question, stored.documents, 0));
  REQUIRE(cluster.run_until([&] { return unlucky->done(); }, limit));
  on.likeness().fail_no_more();
  const auto failed = failures();
  CHECK(failed >= 2);
  for (int i = 0; i < 2; ++i) {
    const auto got = stored.ask(cluster);
    CHECK(got.tokens == right.tokens);
    CHECK(came_by(got, "get"));
  }
  CHECK(failures() == failed);

  cluster.kill("storage-1");
  cluster.restart("storage-1");
  settle(cluster);
  const auto got = stored.ask(cluster);
  CHECK(got.tokens == right.tokens);
  CHECK(came_by(got, "get", "land"));
  for (const auto& t : got.transfers)
    CHECK((t.path == "land") == (t.holder == "storage-1"));
  CHECK(failures() == failed);
}
