// Models whose ranks run on devices, against the whole model on the CPU.
#include <weft/engine/host_compute_device.hpp>
#include <weft/engine/stitch.hpp>

#include "../group_cases.hpp"
#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_groups.hpp"

#include <atomic>
#include <functional>
#include <thread>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;

namespace {

constexpr float largest_difference = 1e-3F;
constexpr std::size_t device_bytes = std::size_t{64} << 20U;

using device_list = std::vector<std::shared_ptr<const compute_device>>;

device_list devices_for(unsigned ranks) {
  device_list made;
  for (unsigned rank = 0; rank < ranks; ++rank)
    made.push_back(host_compute_device(device_bytes));
  return made;
}

runner load_rank(const std::string& name, communicator& group, std::shared_ptr<const compute_device> device) {
  runner_options options = exact_options();
  options.threads = 1;
  options.group = &group;
  options.device = std::move(device);
  return name == "recall" ? load_recall(options) : load_fixture(name, options);
}

// What each rank of a group returns for the same work.
template <class Result>
std::vector<Result> by_ranks(group_list& group, const device_list& devices, const std::string& name,
                             const std::function<Result(runner&)>& work) {
  std::vector<Result> results(group.size());
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < group.size(); ++rank)
    threads.emplace_back([&, rank] {
      runner model = load_rank(name, *group[rank], devices[rank]);
      results[rank] = work(model);
    });
  for (auto& thread : threads)
    thread.join();
  return results;
}

std::vector<float> logits_of_whole(const std::string& name) {
  runner whole = name == "recall" ? load_recall(exact_options()) : load_fixture(name);
  return some_logits(whole);
}

const std::vector<case_of_ranks> possible = {
    {"llama", {2, 4}}, {"llama_tied", {3}}, {"qwen2", {2}}, {"qwen3", {2, 4}}, {"recall", {2, 4}}};

}  // namespace

TEST_CASE("every rank on a device has the logits of the whole model, and the others' bits") {
  for (const auto& [name, sizes] : possible) {
    CAPTURE(name);
    const auto wanted = logits_of_whole(name);
    for (const unsigned ranks : sizes) {
      CAPTURE(ranks);
      const auto devices = devices_for(ranks);
      std::vector<std::vector<float>> of_both;
      for (const auto sums : {sums_over::host, sums_over::devices}) {
        auto group = make_groups(devices, sums);
        const auto given = by_ranks<std::vector<float>>(group, devices, name, some_logits);
        for (const auto& logits : given) {
          CHECK(distance(logits, wanted) <= largest_difference);
          CHECK(logits == given.front());
        }
        of_both.push_back(given.front());
      }
      CHECK(of_both[0] == of_both[1]);
    }
  }
}

TEST_CASE("ranks on devices and ranks on CPUs are one group") {
  auto devices = devices_for(4);
  devices[0] = devices[2] = nullptr;
  const auto wanted = logits_of_whole("llama");
  auto group = make_groups(devices, sums_over::host);
  const auto given = by_ranks<std::vector<float>>(group, devices, "llama", some_logits);
  for (const auto& logits : given) {
    CHECK(distance(logits, wanted) <= largest_difference);
    CHECK(logits == given.front());
  }
}

TEST_CASE("a rank that is lost ends the group, and who is left goes on from stored blocks in another one") {
  const auto tokens = some_tokens(70, 2);
  const auto question = some_tokens(9, 5);
  runner whole = load_fixture("llama");
  const auto encoded = encode_document(whole, tokens);
  REQUIRE(encoded);
  const stored_document stored(*encoded, 32, two_bands);
  const weft::policies::prompt_document part{tokens, true};
  const auto plan = weft::policies::plan_stitch(
      weft::policies::stitch_policy::none, {.opening = {}, .documents = {&part, 1}, .question = question});
  REQUIRE(plan);
  const auto stitched = [&](runner& model) {
    kv_cache cache(model.cache_shape(), 128);
    const document_blocks blocks = stored.blocks();
    REQUIRE(load_documents(model, cache, *plan, {&blocks, 1}));
    std::vector<float> logits(model.config().vocab_size);
    REQUIRE(prefill(model, cache, *plan, logits));
    return logits;
  };
  const auto wanted = stitched(whole);

  for (const auto sums : {sums_over::host, sums_over::devices}) {
    auto devices = devices_for(4);
    auto group = make_groups(devices, sums);
    std::atomic<int> lost = 0;
    by_ranks<int>(group, devices, "llama", [&](runner& model) {
      CHECK(distance(stitched(model), wanted) <= largest_difference);
      kv_cache cache(model.cache_shape(), 128);
      row_batch batch;
      add_rows(batch, some_tokens(20, 1), 0);
      kv_cache* const caches[] = {&cache};
      if (model.shard().rank == 3) {
        dynamic_cast<weft::collective::device_communicator&>(*group[3]).leave({errc::unreachable, "killed"});
        return 0;
      }
      for (int again = 0; again < 2; ++again) {
        const auto done = model.forward(batch, caches, {});
        if (!done && done.error().code == errc::unreachable) ++lost;
      }
      return 0;
    });
    CHECK(lost == 6);
    devices.resize(2);
    auto smaller = make_groups(devices, sums);
    for (const auto& logits : by_ranks<std::vector<float>>(smaller, devices, "llama", stitched))
      CHECK(distance(logits, wanted) <= largest_difference);
  }
}

TEST_CASE("a rank whose device fails halfway ends the group, which does not wait for it") {
  for (const auto sums : {sums_over::host, sums_over::devices}) {
    const device_list devices = {host_compute_device(device_bytes), host_compute_device(device_bytes)};
    auto group = make_groups(devices, sums);
    const auto codes = by_ranks<std::vector<errc>>(group, devices, "llama", [&](runner& model) {
      std::vector<errc> seen;
      kv_cache cache(model.cache_shape(), 64);
      row_batch batch;
      add_rows(batch, some_tokens(20, 1), 0);
      run(model, batch, cache);
      // Its memory is gone when the pass gets there.
      const bool fails = model.shard().rank == 1;
      std::vector<weft::device::memory> taken;
      auto& memory = *devices[model.shard().rank]->memory;
      for (std::size_t bytes = device_bytes; fails && bytes > 0; bytes /= 2)
        while (auto piece = memory.allocate(bytes, "everything"))
          taken.push_back(std::move(*piece));
      row_batch step;
      for (std::int32_t row = 0; row < 20; ++row) {
        step.add(3, 20 + row, 0, 0);
        step.logits_rows.push_back(static_cast<std::uint32_t>(row));
      }
      std::vector<float> logits(step.size() * model.config().vocab_size);
      kv_cache* const caches[] = {&cache};
      for (int again = 0; again < 2; ++again) {
        const auto done = model.forward(step, caches, logits);
        seen.push_back(done ? errc::ok : done.error().code);
      }
      return seen;
    });
    CHECK(codes[0] == std::vector<errc>{errc::unreachable, errc::unreachable});
    CHECK(codes[1] == std::vector<errc>{errc::out_of_space, errc::out_of_space});
  }
}
