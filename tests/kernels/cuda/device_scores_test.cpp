// Scores of blocks and selections on a device, against the CPU's. Skipped, and said so, where there is none.
#include <weft/kernels/cuda/block_scores.hpp>
#include <weft/kernels/cuda/top_k.hpp>
#include <weft/kernels/top_k.hpp>

#include <doctest/doctest.h>

#include "../random_rows.hpp"
#include "device_memory.hpp"

#include <cmath>
#include <limits>
#include <memory>

namespace weft::kernels {
namespace {

using testing::has_device;
using testing::shared_array;

struct keys_on_both {
  keys_on_both(testing::random_source& random, dtype type, std::uint32_t vectors, std::uint32_t channels)
      : tiles(type, vectors, channels), bytes(tiles.size_bytes()) {
    for (std::uint32_t i = 0; i < vectors; ++i)
      tiles.set(i, random.values(channels));
    std::copy_n(tiles.tile(0), tiles.size_bytes(), bytes.data());
  }
  cuda::score_vectors view() { return {bytes.data(), tiles.type(), tiles.vectors(), tiles.channels()}; }

  score_tiles tiles;
  shared_array<std::byte> bytes;
};

TEST_CASE("sums of blocks on the device are the CPU's") {
  if (!has_device()) return;
  testing::random_source random(1);
  for (const dtype type : testing::all_dtypes) {
    constexpr std::uint32_t vectors = testing::as_fits(100'003, 10'003), channels = 32, block_vectors = 8,
                            lines = 35;
    const std::uint32_t blocks = (vectors + block_vectors - 1) / block_vectors;
    keys_on_both keys(random, type, vectors, channels);
    const auto q = random.values(lines * channels);
    std::vector<float> expected(std::size_t{lines} * blocks);
    std::vector<softmax_total> expected_totals(lines);
    thread_pool pool(1);
    workspace scratch;
    const softmax_blocks item{&keys.tiles,     block_vectors,          q.data(),     lines,
                              expected.data(), expected_totals.data(), products::f32};
    softmax_block_sums({&item, 1}, scratch, pool);

    cuda::score_plan plan;
    plan.assign(std::vector<cuda::score_shape>{{vectors, channels, block_vectors, lines}});
    shared_array<float> queries{std::span(q)}, sums(expected.size()),
        memory(plan.scratch_bytes() / sizeof(float));
    shared_array<softmax_total> totals(lines);
    shared_array<cuda::score_task> tasks{plan.tasks()}, line_tasks{plan.lines()};
    shared_array<std::uint64_t> first_maximum{plan.first_maximum()};
    shared_array<cuda::softmax_blocks> items(1);
    items[0] = {keys.view(), block_vectors, queries.data(), lines, sums.data(), totals.data()};
    const cuda::score_work work{tasks.data(),         static_cast<std::uint32_t>(tasks.size()),
                                line_tasks.data(),    static_cast<std::uint32_t>(line_tasks.size()),
                                first_maximum.data(), items.data(),
                                memory.data(),        plan.shared_bytes()};
    REQUIRE(cuda::softmax_block_sums(work, nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    double worst = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const std::size_t line = i / blocks;
      const double sum = sums[i] * std::exp2(double{totals[line].maximum} - expected_totals[line].maximum);
      worst = std::max(worst, std::abs(sum - expected[i]) / (0.01 + expected[i]));
    }
    CHECK(worst < 1e-3);
  }
}

TEST_CASE("products and bounds on the device are the CPU's") {
  if (!has_device()) return;
  testing::random_source random(2);
  for (const dtype type : testing::all_dtypes) {
    constexpr std::uint32_t vectors = 777, channels = 128, lines = 11;
    keys_on_both keys(random, type, vectors, channels);
    const auto q = random.values(lines * channels);
    shared_array<float> queries{std::span(q)}, out(lines * vectors);
    shared_array<cuda::vector_scores> items(1);
    items[0] = {keys.view(), queries.data(), lines, out.data()};
    std::vector<float> expected(out.size());
    thread_pool pool(1);
    const auto check = [&](cudaError_t launched) {
      REQUIRE(launched == cudaSuccess);
      REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
      for (std::size_t i = 0; i < expected.size(); ++i)
        REQUIRE(out[i] == doctest::Approx(expected[i]).epsilon(1e-4).scale(10));
    };
    vector_products(keys.tiles, q.data(), lines, expected.data(), pool);
    check(cuda::vector_products(items.data(), 1, {vectors, lines, channels}, nullptr));
    box_bounds(keys.tiles, q.data(), lines, expected.data(), pool);
    check(cuda::box_bounds(items.data(), 1, {vectors, lines, channels / 2}, nullptr));
  }
}

TEST_CASE("selections of many lists on the device are the CPU's") {
  if (!has_device()) return;
  testing::random_source random(3);
  std::vector<std::vector<float>> scores;
  for (const std::uint32_t count :
       {1U, 31U, 1000U, testing::as_fits(40'001, 4'001), testing::as_fits(100'000, 20'000)}) {
    scores.push_back(random.values(count));
    for (float& score : scores.back()) {
      if (random.coin()) score = static_cast<float>(random.between(0, 9));
      if (random.between(0, 99) == 0) score = std::numeric_limits<float>::quiet_NaN();
    }
  }
  for (const std::uint32_t share : {1U, 4U, 1000U}) {
    shared_array<cuda::top_k_list> lists(scores.size());
    std::vector<std::unique_ptr<shared_array<float>>> inputs;
    std::vector<std::unique_ptr<shared_array<std::uint32_t>>> outputs;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const auto count = static_cast<std::uint32_t>(scores[i].size());
      inputs.push_back(std::make_unique<shared_array<float>>(std::span<const float>(scores[i])));
      outputs.push_back(std::make_unique<shared_array<std::uint32_t>>(count / share));
      lists[i] = {inputs.back()->data(), count, count / share, outputs.back()->data()};
    }
    REQUIRE(cuda::top_k(lists.data(), static_cast<std::uint32_t>(lists.size()), nullptr) == cudaSuccess);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      std::vector<std::uint32_t> expected(outputs[i]->size());
      top_k(scores[i], expected);
      CHECK(std::equal(expected.begin(), expected.end(), outputs[i]->data()));
    }
  }
}

}  // namespace
}  // namespace weft::kernels
