// Which rows are kept: the cut behind a part of very many scores, and the bands of a document.
#include <weft/policies/bands.hpp>
#include <weft/policies/score_order.hpp>

#include "kernels_run.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::size_t scores_count = std::size_t{32} << 20;
constexpr policies::score_shape document{.layers = 16, .kv_heads = 8, .tokens = 32768};

std::vector<float> random_scores(std::size_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(-6.0F, 3.0F);
  std::vector<float> pattern((std::size_t{1} << 20U) + 7);
  for (float& score : pattern)
    score = std::exp(normal(engine));
  std::vector<float> scores(count);
  for (std::size_t i = 0; i < scores.size(); ++i)
    scores[i] = pattern[i % pattern.size()];
  return scores;
}

// Beside one pass that reads the scores, on one thread, as policies run. `work` gives something of what it
// found.
template <class Work>
void measure(kernels_run& run, const std::string& name, std::span<const float> scores, const Work& work) {
  const auto bytes = std::as_bytes(scores);
  kernels::thread_pool alone(1);
  std::uint64_t found = 0;
  const auto times = measure_beside(
      run.rounds, [&] { found += work(); }, [&] { read_all(bytes, alone); });
  const double gigabytes = 1e-9 * static_cast<double>(bytes.size());
  run.add({.name = name + (found == 0 ? ", none" : ""),
           .operation = "selection",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "one pass that reads them",
           .limit_gb_per_s = gigabytes / times.limit_seconds,
           .ratio = times.ratio});
}

}  // namespace

void measure_selection(kernels_run& run) {
  const auto scores = random_scores(scores_count);
  const std::span<const float> list(scores);
  measure(run, "the best 0.3 of 32 million scores, one thread", list, [&] {
    return policies::cut_behind({&list, 1}, scores.size() * 3 / 10).ties;
  });
  policies::score_table table(document);
  table.values = random_scores(document.rows());
  measure(run, "six bands of a document of 32,768 tokens in 128 heads, one thread", table.values,
          [&] { return policies::cut_bands(table, policies::default_band_ratios()).value().rows.front(); });
}

}  // namespace weft::bench
