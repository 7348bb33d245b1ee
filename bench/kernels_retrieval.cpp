#include <weft/kernels/block_scores.hpp>

#include "kernels_run.hpp"

#include <random>
#include <string>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::uint32_t channels = 16;       // a quarter of head_dim 64
constexpr std::uint32_t block_vectors = 32;  // 64 tokens, two to a vector
constexpr std::uint32_t vectors = 1U << 22U;

std::vector<float> noise(std::size_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0.0F, 1.0F);
  std::vector<float> values(count);
  for (float& value : values)
    value = normal(engine);
  return values;
}

kernels::score_tiles random_representations() {
  kernels::score_tiles tiles(kernels::dtype::bf16, vectors, channels);
  const auto values = noise(std::size_t{1} << 16U);
  for (std::uint32_t i = 0; i < vectors; ++i)
    tiles.set(i, std::span(values).subspan(std::size_t{i} * 7 % (values.size() - channels), channels));
  return tiles;
}

void measure_scores(kernels_run& run, const kernels::score_tiles& tiles, std::span<const std::byte> bytes,
                    std::uint32_t lines) {
  const auto queries = noise(std::size_t{lines} * channels);
  std::vector<float> sums(std::size_t{lines} * vectors / block_vectors);
  std::vector<kernels::softmax_total> totals(lines);
  kernels::workspace scratch;
  const kernels::softmax_blocks item{&tiles, block_vectors, queries.data(),
                                     lines,  sums.data(),   totals.data()};
  const auto times = measure_beside(
      run.rounds,
      [&] {
        kernels::softmax_block_sums({&item, 1}, scratch, run.pool);
      },
      [&] { read_all(bytes, run.pool); });
  const double gigabytes = static_cast<double>(bytes.size()) * 1e-9;
  run.add({.name = "block scores, bf16 representations, " + std::to_string(lines) + " queries",
           .operation = "block_scores",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "read",
           .limit_gb_per_s = gigabytes / times.limit_seconds,
           .ratio = times.ratio});
}

}  // namespace

// Four queries: one step of a group of four heads; 32: a period of eight such steps.
void measure_retrieval(kernels_run& run) {
  const auto tiles = random_representations();
  for (const std::uint32_t lines : {4U, 32U})
    measure_scores(run, tiles, {tiles.tile(0), tiles.size_bytes()}, lines);
}

}  // namespace weft::bench
