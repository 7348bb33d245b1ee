// Decode steps that are recorded and launched again, against the same steps as they come.
#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/step_recordings.hpp>
#include <weft/policies/budget.hpp>

#include "../small_models.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::kernels::dtype;
using weft::kernels::row_codec;

namespace {

constexpr std::uint32_t room = 400;

runner load(const std::string& name, dtype cache) {
  return load_fixture(name, options_on(device_under_test(), cache));
}

// Without recordings.
weft::result<void> forward_as_it_comes(runner& model, const row_batch& batch,
                                       std::span<kv_cache* const> caches, std::span<float> logits) {
  auto& steps = recordings_of(*device_under_test());
  steps.wanted = false;
  auto done = model.forward(batch, caches, logits);
  steps.wanted = true;
  return done;
}

struct counts {
  std::uint64_t recorded = 0;
  std::uint64_t launched = 0;
  bool operator==(const counts&) const = default;
};

counts counted() {
  const auto& steps = recordings_of(*device_under_test());
  CHECK(steps.refused == 0);
  return {steps.recorded, steps.launched};
}

// What was counted since then.
counts since(const counts& before) {
  const auto now = counted();
  return {now.recorded - before.recorded, now.launched - before.launched};
}

bool same_bits(const kv_cache& a, const kv_cache& b) {
  const kv_shape& shape = a.shape();
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::uint32_t rows = a.rows(layer, head);
      const std::size_t bytes = rows * shape.row_bytes();
      if (rows != b.rows(layer, head) || std::memcmp(a.k(layer, head), b.k(layer, head), bytes) != 0 ||
          std::memcmp(a.v(layer, head), b.v(layer, head), bytes) != 0 ||
          !std::equal(a.positions(layer, head), a.positions(layer, head) + rows, b.positions(layer, head)))
        return false;
    }
  return true;
}

// The same sessions twice: steps as they come, and recorded ones.
struct twin_sessions {
  twin_sessions(const std::string& name, dtype cache)
      : plain(load(name, cache)), recorded(load(name, cache)) {}

  std::size_t open(std::uint32_t rows, std::uint32_t seed) {
    a.emplace_back(plain.cache_shape(), room);
    b.emplace_back(plain.cache_shape(), room);
    positions.push_back(0);
    prompt(a.size() - 1, rows, seed);
    return a.size() - 1;
  }

  void prompt(std::size_t session, std::uint32_t rows, std::uint32_t seed) {
    row_batch batch;
    add_rows(batch, some_tokens(rows, seed), positions[session]);
    CHECK(run(plain, batch, a[session]) == run(recorded, batch, b[session]));
    positions[session] += static_cast<std::int32_t>(rows);
  }

  // The logits of all sessions, or of the last one alone.
  void step(const std::vector<std::size_t>& sessions, bool all = true) {
    row_batch batch;
    std::vector<kv_cache*> of_plain, of_recorded;
    for (const std::size_t session : sessions) {
      if (all || session == sessions.back())
        batch.logits_rows.push_back(static_cast<std::uint32_t>(batch.size()));
      batch.add(++token % 150, positions[session]++, 0, static_cast<std::uint32_t>(of_plain.size()));
      of_plain.push_back(&a[session]);
      of_recorded.push_back(&b[session]);
    }
    std::vector<float> wanted(batch.logits_rows.size() * plain.config().vocab_size), given(wanted.size());
    REQUIRE(forward_as_it_comes(plain, batch, of_plain, wanted));
    const auto done = recorded.forward(batch, of_recorded, given);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    CHECK(std::memcmp(wanted.data(), given.data(), wanted.size() * sizeof(float)) == 0);
    for (const std::size_t session : sessions)
      CHECK(same_bits(a[session], b[session]));
  }

  runner plain, recorded;
  std::vector<kv_cache> a, b;
  std::vector<std::int32_t> positions;
  token_id token = 0;
};

}  // namespace

TEST_CASE("recorded steps give the bits of steps as they come, for every kind of model and cache") {
  if (!device_under_test()) return;
  for (const std::string name : {"llama", "llama_tied", "qwen2", "qwen3"})
    for (const auto type : {dtype::f32, dtype::f16, dtype::bf16}) {
      CAPTURE(name);
      twin_sessions t(name, type);
      t.open(30, 1);
      t.open(7, 2);
      const auto before = counted();
      for (int i = 0; i < 6; ++i)
        t.step({0, 1});
      // The first as it comes, the second recorded.
      CHECK(since(before) == counts{1, 5});
    }
}

TEST_CASE("sessions join and leave, and come back to what was recorded") {
  if (!device_under_test()) return;
  twin_sessions t("llama", dtype::f16);
  for (std::uint32_t i = 0; i < 3; ++i)
    t.open(20 + 5 * i, i);
  t.open(60, 9);  // the longest prompt: activations stay where they are
  const auto all_at_once = [&](const std::vector<std::size_t>& sessions) {
    const auto before = counted();
    for (int i = 0; i < 3; ++i)
      t.step(sessions);
    return since(before);
  };
  CHECK(all_at_once({0, 1, 2}) == counts{1, 2});
  CHECK(all_at_once({0, 2}) == counts{1, 2});
  CHECK(all_at_once({2, 0, 1}) == counts{0, 3});
  CHECK(all_at_once({3, 1, 2}) == counts{0, 3});
  CHECK(all_at_once({3}) == counts{1, 2});
}

TEST_CASE("a plan that grows past its room is another recording, and the one before is found again") {
  if (!device_under_test()) return;
  twin_sessions t("llama", dtype::f16);
  t.open(124, 1);
  for (std::uint32_t i = 0; i < 6; ++i)
    t.open(10, 2 + i);
  const auto before = counted();
  for (int i = 0; i < 14; ++i)
    t.step({0, 1, 2, 3, 4, 5, 6});
  // Behind row 128 there are more pieces than rooms for 16.
  CHECK(since(before) == counts{2, 12});
}

TEST_CASE("what is done to caches between steps is seen by recorded ones") {
  if (!device_under_test()) return;
  twin_sessions t("qwen3", dtype::f16);
  t.open(30, 3);
  for (int i = 0; i < 3; ++i)
    t.step({0});
  for (auto* caches : {&t.a, &t.b}) {
    caches->front().truncate(25);
    std::swap_ranges(caches->front().v(1, 0), caches->front().v(1, 0) + 64, caches->front().v(1, 0) + 64);
    caches->front().set_rows(0, 0, 12);
  }
  t.positions[0] = 25;
  t.step({0});
  t.prompt(0, 10, 4);
  t.step({0});
  // Another cache, whose mirror lies elsewhere.
  t.open(5, 5);
  t.step({1});
  t.a.erase(t.a.begin());
  t.b.erase(t.b.begin());
  t.positions.erase(t.positions.begin());
  const auto before = counted();
  t.step({0});
  CHECK(since(before) == counts{0, 1});
}

TEST_CASE("steps behind rows that sessions share, which may be in a codec") {
  if (!device_under_test()) return;
  for (const auto coding : {row_codec::raw, row_codec::int8, row_codec::int4}) {
    twin_sessions t("llama", dtype::f16);
    const auto copied = [&] {
      kv_cache whole(t.plain.cache_shape(), room);
      row_batch batch;
      add_rows(batch, some_tokens(40, 6), 0, 1);
      run(t.plain, batch, whole);
      weft::policies::kept_rows kept({whole.shape().layers, whole.shape().kv_heads, 40});
      for (std::size_t i = 0; i < kept.kept.size(); ++i)
        kept.kept[i] = i % 3 != 0;
      auto made = copy_kept_rows(whole, kept, 10, coding);
      REQUIRE_MESSAGE(made.has_value(), made.error().context);
      return std::move(*made);
    };
    // The codec's own rows are encoded on the host.
    t.a.push_back(copied());
    t.b.push_back(copied());
    t.positions.push_back(40);
    const auto own = counted();
    for (int i = 0; i < 3; ++i)
      t.step({0});
    CHECK(since(own) == (coding == row_codec::raw ? counts{1, 2} : counts{0, 0}));
    const auto base_of_a = std::make_shared<const kv_cache>(copied());
    const auto base_of_b = std::make_shared<const kv_cache>(copied());
    const std::vector<std::uint32_t> tail(
        std::size_t{base_of_a->shape().layers} * base_of_a->shape().kv_heads, 20);
    for (int session = 0; session < 2; ++session) {
      t.a.emplace_back(base_of_a, tail);
      t.b.emplace_back(base_of_b, tail);
      t.positions.push_back(40);
    }
    const auto shared = counted();
    for (int i = 0; i < 4; ++i)
      t.step({1, 2});
    CHECK(since(shared) == counts{1, 3});
  }
}

TEST_CASE("what a recording cannot hold goes on as it comes") {
  if (!device_under_test()) return;
  twin_sessions t("llama", dtype::f16);
  t.open(30, 7);
  t.open(9, 8);
  const auto before = counted();
  for (int i = 0; i < 3; ++i)
    t.step({0, 1}, false);  // not all logits are wanted
  forward_observer watches;
  for (int i = 0; i < 3; ++i) {
    row_batch batch;
    batch.add(3, t.positions[0]++, 0);
    batch.logits_rows = {0};
    std::vector<float> logits(t.plain.config().vocab_size), watched(logits.size());
    kv_cache* const here[] = {&t.a[0]};
    kv_cache* const there[] = {&t.b[0]};
    REQUIRE(forward_as_it_comes(t.plain, batch, here, logits));
    REQUIRE(t.recorded.forward(batch, there, watched, &watches));
    CHECK(logits == watched);
  }
  CHECK(since(before) == counts{0, 0});
}
