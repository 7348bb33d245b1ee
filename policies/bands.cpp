#include <weft/policies/bands.hpp>
#include <weft/policies/budget.hpp>
#include <weft/policies/score_order.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

namespace weft::policies {

namespace {

result<void> check(std::span<const decimal_ratio> ratios) {
  if (ratios.empty() || ratios.size() > block::max_bands)
    return fail(errc::invalid_argument, std::to_string(ratios.size()) + " bands; a block has 1 to " +
                                            std::to_string(block::max_bands));
  for (std::size_t i = 1; i < ratios.size(); ++i)
    if (!(ratios[i - 1] < ratios[i])) return fail(errc::invalid_argument, "the ratios of bands must ascend");
  return {};
}

// Of the rows that are not protected.
std::vector<score_cut> cuts_of(const score_table& scores, std::span<const decimal_ratio> ratios,
                               std::uint32_t protected_rows) {
  score_histogram histogram;
  for (std::size_t head = 0; head < scores.shape.heads(); ++head)
    histogram.add(scores.head(head).subspan(protected_rows));
  std::vector<score_cut> cuts;
  for (const decimal_ratio& ratio : ratios)
    cuts.push_back(histogram.cut(ratio.of(histogram.rows())));
  return cuts;
}

static_assert(banded_rows::no_band == band_filter::no_band);

}  // namespace

std::span<const decimal_ratio> default_band_ratios() {
  static const std::array<decimal_ratio, 6> ratios{
      decimal_ratio::from(0.1).value(), decimal_ratio::from(0.2).value(), decimal_ratio::from(0.3).value(),
      decimal_ratio::from(0.5).value(), decimal_ratio::from(0.7).value(), decimal_ratio::from(1.0).value()};
  return ratios;
}

result<std::vector<decimal_ratio>> band_ratios(std::span<const decimal_ratio> wanted,
                                               const decimal_ratio& kept) {
  if (wanted.empty()) wanted = default_band_ratios();
  std::vector<decimal_ratio> ratios;
  for (const auto& ratio : wanted)
    if (ratio < kept) ratios.push_back(ratio);
  ratios.push_back(kept);
  if (auto checked = check(wanted); !checked) return tl::unexpected(checked.error());
  if (auto checked = check(ratios); !checked) return tl::unexpected(checked.error());
  return ratios;
}

result<banded_rows> cut_bands(const score_table& scores, std::span<const decimal_ratio> ratios,
                              std::uint32_t protected_rows) {
  if (auto checked = check(ratios); !checked) return tl::unexpected(checked.error());
  // Band 0 has what is kept beside the best rows, at any ratio.
  const auto first = keep_rows(scores, {.ratio = ratios.front(), .protected_rows = protected_rows});
  if (!first) return tl::unexpected(first.error());
  const auto cuts = cuts_of(scores, ratios, protected_rows);
  band_filter filter(cuts);
  banded_rows bands;
  bands.shape = scores.shape;
  bands.band.assign(scores.shape.rows(), 0);
  bands.ratios.assign(ratios.begin(), ratios.end());
  std::array<float, 256> least{};  // by band
  least.fill(std::numeric_limits<float>::infinity());
  for (std::size_t head = 0; head < scores.shape.heads(); ++head) {
    const std::span<const float> row_scores = scores.head(head);
    const std::span out = std::span(bands.band).subspan(head * scores.shape.tokens, scores.shape.tokens);
    filter.mark(row_scores.subspan(protected_rows), out.subspan(protected_rows));
    const std::span<const std::uint8_t> kept = first->head(head);
    for (std::size_t row = 0; row < out.size(); ++row) {
      const auto band = static_cast<std::uint8_t>(out[row] & (kept[row] - 1));  // 0 of what is kept
      out[row] = band;
      if (row_scores[row] < least[band]) least[band] = row_scores[row];
    }
  }
  for (std::size_t band = 0; band < ratios.size(); ++band) {
    const auto own = std::ranges::count(bands.band, static_cast<std::uint8_t>(band));
    bands.rows.push_back((band == 0 ? 0 : bands.rows.back()) + static_cast<std::uint64_t>(own));
    const float before = band == 0 ? 0.0F : bands.least_score.back();
    bands.least_score.push_back(least[band] < std::numeric_limits<float>::infinity() ? least[band] : before);
  }
  return bands;
}

std::vector<block::band_rows> block_bands(const banded_rows& document, std::uint32_t first_token,
                                          std::uint32_t tokens) {
  std::vector<block::band_rows> bands(document.ratios.size());
  for (std::size_t band = 0; band < bands.size(); ++band) {
    bands[band].counts.assign(document.shape.heads(), 0);
    bands[band].min_score = document.least_score[band];
  }
  for (std::size_t head = 0; head < document.shape.heads(); ++head)
    for (std::uint32_t token = 0; token < tokens; ++token) {
      const std::uint8_t band = document.band[head * document.shape.tokens + first_token + token];
      if (band == banded_rows::no_band) continue;
      ++bands[band].counts[head];
      bands[band].positions.push_back(static_cast<std::uint16_t>(token));
    }
  return bands;
}

}  // namespace weft::policies
