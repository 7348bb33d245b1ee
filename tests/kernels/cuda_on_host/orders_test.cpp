// Results that must not depend on the order in which a device runs threads.
#include <weft/kernels/cuda/block_scores.hpp>
#include <weft/kernels/cuda/top_k.hpp>

#include "../random_rows.hpp"
#include "on_host.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace weft::kernels::cuda_on_host {
namespace {

constexpr std::uint64_t orders = 12;

TEST_CASE("selections are the same in every order of threads") {
  testing::random_source random(1);
  auto scores = random.values(3000);
  for (float& score : scores)
    if (random.coin()) score = static_cast<float>(random.between(0, 5));
  shared_array<float> there{std::span<const float>(scores)};
  std::vector<std::uint32_t> first;
  for (std::uint64_t order = 0; order < orders; ++order) {
    shared_array<std::uint32_t> chosen(1000);
    shared_array<cuda::top_k_list> lists(1);
    lists[0] = {there.data(), 3000, 1000, chosen.data()};
    draw_orders_from(100 * order);
    REQUIRE(cuda::top_k(lists.data(), 1, nullptr) == cudaSuccess);
    if (order == 0) first.assign(chosen.data(), chosen.data() + chosen.size());
    CHECK(std::equal(first.begin(), first.end(), chosen.data()));
  }
}

TEST_CASE("sums of blocks have the same bits in every order of threads") {
  constexpr std::uint32_t vectors = 1501, channels = 24, block_vectors = 5, lines = 11;
  testing::random_source random(2);
  score_tiles tiles(dtype::f16, vectors, channels);
  for (std::uint32_t i = 0; i < vectors; ++i)
    tiles.set(i, random.values(channels));
  shared_array<std::byte> keys(tiles.size_bytes());
  std::copy_n(tiles.tile(0), tiles.size_bytes(), keys.data());
  const auto q = random.values(std::size_t{lines} * channels);
  shared_array<float> queries{std::span<const float>(q)};
  cuda::score_plan plan;
  plan.assign(std::vector<cuda::score_shape>{{vectors, channels, block_vectors, lines}});
  shared_array<cuda::score_task> tasks{plan.tasks()}, line_tasks{plan.lines()};
  shared_array<std::uint64_t> first_maximum{plan.first_maximum()};
  std::vector<float> first;
  for (std::uint64_t order = 0; order < orders; ++order) {
    shared_array<float> sums(std::size_t{lines} * ((vectors + block_vectors - 1) / block_vectors));
    shared_array<float> scratch(plan.scratch_bytes() / sizeof(float));
    shared_array<softmax_total> totals(lines);
    shared_array<cuda::softmax_blocks> items(1);
    items[0] = {{keys.data(), dtype::f16, vectors, channels},
                block_vectors,
                queries.data(),
                lines,
                sums.data(),
                totals.data()};
    const cuda::score_work work{tasks.data(),         static_cast<std::uint32_t>(tasks.size()),
                                line_tasks.data(),    static_cast<std::uint32_t>(line_tasks.size()),
                                first_maximum.data(), items.data(),
                                scratch.data(),       plan.shared_bytes()};
    draw_orders_from(100 * order);
    REQUIRE(cuda::softmax_block_sums(work, nullptr) == cudaSuccess);
    if (order == 0) first.assign(sums.data(), sums.data() + sums.size());
    CHECK(std::memcmp(first.data(), sums.data(), first.size() * sizeof(float)) == 0);
  }
}

}  // namespace
}  // namespace weft::kernels::cuda_on_host
