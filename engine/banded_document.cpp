#include <weft/block/digest.hpp>
#include <weft/engine/banded_document.hpp>

#include <algorithm>
#include <utility>

namespace weft::engine {

namespace {

// What of the model's metadata decides the scores of a repeating policy; it is no part of the fingerprint.
std::string digest_of(const repeat_plan& plan) {
  block::digest fields("weft.repeat.1");
  const auto& prompt = plan.prompt;
  fields.tokens(prompt.prefix).tokens(prompt.later_prefix).tokens(prompt.suffix);
  fields.u32(prompt.hint_tokens).u8(static_cast<std::uint8_t>(prompt.hint_from));
  fields.u8(plan.by_document ? 1 : 0).u32(plan.chunk_tokens).u32(plan.skip_tokens);
  return to_hex(fields.finish()).substr(0, 16);
}

policies::row_scoring scoring_of(const banding& wanted, const repeat_plan& plan) {
  using policies::importance_policy;
  policies::row_scoring scoring{
      .policy = std::string{policies::name_of(wanted.policy)}, .parameters = {}, .bands = {}};
  if (wanted.policy == importance_policy::kvzip || wanted.policy == importance_policy::kvzip_plus)
    scoring.parameters.push_back({"repeat", digest_of(plan)});
  for (std::size_t band = 0; band < wanted.ratios.size(); ++band)
    scoring.bands.push_back({.ratio = wanted.ratios[band].value(),
                             .codec = static_cast<std::uint8_t>(
                                 wanted.codecs.empty() ? block::codec::raw : wanted.codecs[band])});
  return scoring;
}

}  // namespace

std::vector<block::band_rows> banded_document::block_bands(std::uint32_t block,
                                                           std::uint32_t block_tokens) const {
  const auto shape = rows_.block_shape(block, block_tokens);
  if (!bands_) return {block::all_rows(shape)};
  auto bands = policies::block_bands(*bands_, block * block_tokens, shape.tokens);
  for (std::size_t band = 0; band < bands.size(); ++band)
    bands[band].coding = static_cast<block::codec>(scoring_.bands[band].codec);
  return bands;
}

std::vector<std::uint32_t> banded_document::cumulative_rows() const {
  if (!bands_) return {};
  const std::size_t heads = bands_->shape.heads();
  std::vector<std::uint32_t> rows(bands_->ratios.size() * heads, 0);
  for (std::size_t head = 0; head < heads; ++head)
    for (std::uint32_t token = 0; token < bands_->shape.tokens; ++token)
      if (const auto band = bands_->band[head * bands_->shape.tokens + token]; band != bands_->no_band)
        ++rows[band * heads + head];
  for (std::size_t i = heads; i < rows.size(); ++i)
    rows[i] += rows[i - heads];
  return rows;
}

result<banded_document> encode_banded(runner& model, row_scorer& scorer, const repeat_plan& plan,
                                      std::span<const token_id> tokens, const banding& wanted) {
  if (auto checked = check_document(model, tokens); !checked) return tl::unexpected(checked.error());
  if (!wanted.codecs.empty() && wanted.codecs.size() != wanted.ratios.size())
    return fail(errc::invalid_argument, std::to_string(wanted.codecs.size()) + " codecs for " +
                                            std::to_string(wanted.ratios.size()) +
                                            " bands; name one for each");
  const auto count = static_cast<std::uint32_t>(tokens.size());
  const scoring_request request{
      .policy = wanted.policy, .tokens = tokens, .repeat = &plan.prompt, .chunks = plan.chunks(0, count)};
  kv_cache cache(model.cache_shape(), scoring_capacity_rows(request));
  encoded_document rows(model, count);
  const auto writer = document_observer(rows);
  const auto scores = scorer.score(cache, request, writer.get());
  if (!scores) return tl::unexpected(scores.error());
  auto bands = policies::cut_bands(*scores, wanted.ratios);
  if (!bands) return tl::unexpected(bands.error());
  return banded_document(std::move(rows), std::move(*bands), scoring_of(wanted, plan));
}

result<block_images> block_images::of(const banded_document& document, std::uint32_t block_tokens) {
  block_images images;
  const auto& rows = document.rows();
  for (std::uint32_t index = 0; index < rows.blocks(block_tokens); ++index) {
    const auto shape = rows.block_shape(index, block_tokens);
    const auto bands = document.block_bands(index, block_tokens);
    auto& memory = images.memory_.emplace_back(block::size_bytes(shape, bands));
    const std::span bytes{memory.data(), memory.size_bytes()};
    if (const auto done = block::write(bytes, {}, shape, bands, rows.block_source(index, block_tokens));
        !done)
      return tl::unexpected(done.error());
    auto parsed = block::view::parse(bytes);
    if (!parsed) return tl::unexpected(parsed.error());
    images.views_.push_back(std::move(*parsed));
  }
  return images;
}

}  // namespace weft::engine
