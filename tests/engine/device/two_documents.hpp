// A prompt of two documents that lie in blocks, for a model on the CPU and the same one on the device under
// test.
#pragma once

#include <weft/engine/stitch.hpp>
#include <weft/policies/stitch.hpp>

#include "../small_models.hpp"
#include "../stored_document.hpp"
#include "device_options.hpp"
#include "device_under_test.hpp"

#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace weft::engine::test {

inline band_cutter two_bands_in(kernels::row_codec first, kernels::row_codec second) {
  return [=](const block::shape& shape) {
    auto bands = two_bands(shape);
    bands[0].coding = first;
    bands[1].coding = second;
    return bands;
  };
}

struct named_cut {
  const char* name = nullptr;
  band_cutter bands;
};

inline std::vector<named_cut> several_cuts() {
  using kernels::row_codec;
  return {{"one band", one_band},
          {"two bands", two_bands},
          {"int8 behind raw", two_bands_in(row_codec::raw, row_codec::int8)},
          {"int4 behind int8", two_bands_in(row_codec::int8, row_codec::int4)}};
}

struct two_documents {
  static constexpr std::uint32_t room = 256;  // of a cache

  explicit two_documents(const band_cutter& cut = two_bands, std::uint32_t block_tokens = 32,
                         kernels::dtype cache_type = kernels::dtype::f16)
      : cpu(load(nullptr, cache_type)), there(load(device_under_test(), cache_type)) {
    for (const auto& tokens : texts) {
      const auto encoded = encode_document(cpu, tokens);
      REQUIRE(encoded);
      stored.push_back(std::make_unique<stored_document>(*encoded, block_tokens, cut));
      blocks.push_back(stored.back()->blocks());
    }
  }
  static runner load(std::shared_ptr<const compute_device> device, kernels::dtype cache_type) {
    auto options = options_in_parts(std::move(device), 16, cache_type);
    options.threads = 2;
    return load_fixture("llama", options);
  }

  policies::stitch_plan plan(const policies::stitch_policy& policy = policies::stitch_policy::none,
                             std::span<const std::vector<token_id>> inserted = {}) const {
    std::vector<policies::prompt_document> listed;
    for (const auto& tokens : texts)
      listed.push_back({tokens, true});
    auto made = plan_stitch(
        policy, {.opening = opening, .documents = listed, .question = question, .inserted = inserted});
    REQUIRE(made);
    return std::move(*made);
  }

  kv_cache empty() const { return {cpu.cache_shape(), room}; }
  // By (layer, KV head), as caches behind others take it.
  std::vector<std::uint32_t> head_rooms() const {
    return std::vector<std::uint32_t>(std::size_t{cpu.config().layers} * cpu.config().kv_heads, room);
  }
  kv_cache loaded(runner& model, const policies::stitch_plan& of, loaded_rows wanted) const {
    kv_cache cache = empty();
    const auto done = load_documents(model, cache, of, blocks, wanted);
    REQUIRE_MESSAGE(done.has_value(), done.error().context);
    return cache;
  }
  kv_cache away() { return loaded(there, plan(), loaded_rows::where_computed); }
  kv_cache here() { return loaded(cpu, plan(), loaded_rows::here); }

  std::vector<placed_block> placed(std::size_t document, std::int32_t position) const {
    std::vector<placed_block> all;
    for (const auto& block : blocks[document]) {
      all.push_back({&block, block.bands_present(), position, 1});
      position += static_cast<std::int32_t>(block.dimensions().tokens);
    }
    return all;
  }

  std::vector<token_id> opening = some_tokens(3, 1);
  std::vector<std::vector<token_id>> texts{some_tokens(70, 2), some_tokens(33, 3)};
  std::vector<token_id> question = some_tokens(9, 5);
  runner cpu, there;
  std::vector<std::unique_ptr<stored_document>> stored;
  std::vector<document_blocks> blocks;
};

// The first answer token's logits and those of two steps behind it, the second like one before.
inline std::vector<float> answer(runner& model, kv_cache& cache, const policies::stitch_plan& plan) {
  std::vector<float> logits(model.config().vocab_size);
  REQUIRE(prefill(model, cache, plan, logits));
  for (const token_id token : {7, 8}) {
    row_batch step;
    step.add(token, static_cast<std::int32_t>(plan.prompt_tokens) + token - 7, 0);
    const auto next = run(model, step, cache);
    logits.insert(logits.end(), next.begin(), next.end());
  }
  return logits;
}

inline bool nothing_is_home(const kv_cache& cache) {
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
      if (cache.is_home(layer, head)) return false;
  return true;
}

}  // namespace weft::engine::test
