#include "document_bands.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

constexpr double millionth = 1e-6;

std::uint32_t millionths_of(double ratio) {
  return static_cast<std::uint32_t>(std::lround(ratio / millionth));
}

result<std::optional<engine::banding>> banding_of(const std::string& name, const std::vector<double>& ratios,
                                                  std::span<const std::uint8_t> codecs) {
  const auto policy = policies::importance_policy_from_name(name);
  if (!policy) return tl::unexpected(policy.error());
  engine::banding banding{.policy = *policy, .ratios = {}};
  for (const auto codec : codecs) {
    if (codec > static_cast<std::uint8_t>(block::codec::int4))
      return fail(errc::unsupported, "band codec " + std::to_string(codec) + " is none of raw, int8, int4");
    banding.codecs.push_back(static_cast<block::codec>(codec));
  }
  for (const double ratio : ratios) {
    const auto decimal = policies::decimal_ratio::from(ratio);
    if (!decimal) return tl::unexpected(decimal.error());
    banding.ratios.push_back(*decimal);
  }
  if (banding.ratios.empty())
    return fail(errc::invalid_argument, "a scored document needs at least one band");
  return std::optional{std::move(banding)};
}

bool is_scored(const schema::manifest& m) {
  return m.meaning.policy != "none";
}

std::string text_of(std::uint32_t millionths) {
  return decimal_of(millionths * millionth);
}

}  // namespace

std::string decimal_of(double ratio) {
  auto text = std::to_string(ratio);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

result<std::optional<engine::banding>> banding_of(const encode_request& request) {
  if (request.importance.empty()) return std::nullopt;
  std::vector<double> ratios;
  for (const auto millionths : request.band_millionths)
    ratios.push_back(millionths / (1 / millionth));
  return banding_of(request.importance, std::move(ratios), request.band_codecs);
}

result<std::optional<engine::banding>> banding_of(const schema::manifest& m) {
  if (!is_scored(m)) return std::nullopt;
  std::vector<double> ratios;
  std::vector<std::uint8_t> codecs;
  for (const auto& band : m.bands) {
    ratios.push_back(band.ratio);
    codecs.push_back(band.codec);
  }
  return banding_of(m.meaning.policy, std::move(ratios), codecs);
}

void describe_bands(schema::manifest& m, const engine::banded_document& document) {
  const auto* bands = document.bands();
  if (bands == nullptr) return;
  const auto& scoring = document.scoring();
  m.bands.clear();
  for (std::size_t i = 0; i < bands->ratios.size(); ++i)
    m.bands.push_back({.ratio = bands->ratios[i].value(),
                       .min_score = bands->least_score[i],
                       .codec = scoring.bands[i].codec});
  m.meaning.policy = scoring.policy;
  for (const auto& parameter : scoring.parameters)
    m.meaning.parameters.push_back({parameter.name, parameter.value});
  m.meaning.score_scale = scoring.policy;
  m.band_rows = document.cumulative_rows();
}

result<std::uint32_t> bands_for(const schema::manifest& m, std::uint32_t ratio_millionths) {
  const auto all = static_cast<std::uint32_t>(m.bands.size());
  if (ratio_millionths == 0) return all;
  const auto name = "document `" + m.name + "`";
  if (!is_scored(m)) {
    if (ratio_millionths >= 1'000'000) return all;
    return fail(errc::invalid_argument, name +
                                            " is stored whole, its rows are not scored; ingest it with "
                                            "--importance kvzip, or ask without a ratio");
  }
  const auto band = std::ranges::find_if(
      m.bands, [&](const auto& cut) { return millionths_of(cut.ratio) >= ratio_millionths; });
  if (band == m.bands.end())
    return fail(errc::invalid_argument, name + " keeps " + text_of(millionths_of(m.bands.back().ratio)) +
                                            " of its rows, not " + text_of(ratio_millionths) +
                                            "; ask with at most that, or ingest it with a higher ratio");
  return static_cast<std::uint32_t>(band - m.bands.begin()) + 1;
}

std::uint64_t front_bytes(const schema::manifest& m, std::size_t block, std::uint32_t bands) {
  if (m.band_ends.empty()) return 0;
  return m.band_ends[block * m.bands.size() + std::min<std::size_t>(bands, m.bands.size()) - 1];
}

std::vector<std::uint64_t> band_bytes(const schema::manifest& m) {
  if (m.band_ends.empty()) return {};
  std::vector<std::uint64_t> bytes(m.bands.size(), 0);
  for (std::size_t i = 0; i < m.band_ends.size(); ++i)
    bytes[i % bytes.size()] += m.band_ends[i];
  return bytes;
}

std::span<const std::uint32_t> rows_of(const schema::manifest& m, std::uint32_t bands) {
  const auto heads = m.band_rows.size() / m.bands.size();
  return std::span(m.band_rows).subspan(heads == 0 ? 0 : (bands - 1) * heads, heads);
}

std::uint32_t served_millionths(const schema::manifest& m, std::span<const std::uint64_t> held) {
  const auto bands = m.bands.size();
  auto served = bands;
  for (std::size_t block = 0; block < held.size(); ++block) {
    if (m.band_ends.empty() && held[block] == 0) return 0;
    while (!m.band_ends.empty() && served > 0 && held[block] < m.band_ends[block * bands + served - 1])
      --served;
  }
  return served == 0 ? 0 : millionths_of(m.bands[served - 1].ratio);
}

std::vector<std::uint32_t> band_millionths(const schema::manifest& m) {
  std::vector<std::uint32_t> all;
  for (const auto& band : m.bands)
    all.push_back(millionths_of(band.ratio));
  return all;
}

}  // namespace weft::actors
