#include "profile.hpp"

#include <weft/engine/compressed_cache.hpp>
#include <weft/engine/scoring.hpp>
#include <weft/launcher/study/score.hpp>
#include <weft/policies/budget.hpp>

#include "elapsed.hpp"
#include "process_memory.hpp"

#include <algorithm>
#include <chrono>
#include <optional>
#include <random>
#include <utility>

namespace weft::launcher::study {

namespace {

using clock = std::chrono::steady_clock;
using engine::token_id;

// What one policy, and one ratio of it, gave round by round.
struct measured_scoring {
  std::vector<double> ms, ratios;
  std::size_t peak_bytes = 0;
};
struct measured_decode {
  std::vector<double> keep_ms, token_ms, ratios;
  std::size_t cache_bytes = 0;
};

class profiler {
 public:
  profiler(loaded_model& model, const profile_request& request, engine::repeat_plan plan)
      : model_(model),
        request_(request),
        plan_(std::move(plan)),
        scorer_(model.runner),
        logits_(model.runner.config().vocab_size),
        scoring_(request.policies.size()),
        decode_(request.policies.size(), std::vector<measured_decode>(request.ratios.size())) {
    // Documents of random tokens: a plan by document gets chunks of the usual length.
    plan_.by_document = false;
    std::mt19937_64 random(request.seed);
    for (std::uint32_t i = 0; i < request.tokens; ++i)
      tokens_.push_back(static_cast<token_id>(random() % model.runner.config().vocab_size));
  }

  // Scratch memory that stays with the runner is its own, not that of the first stage that is measured.
  result<void> warm_up() {
    engine::kv_cache cache(model_.runner.cache_shape(), request_.tokens);
    if (auto done = forward(cache); !done) return done;
    for (const auto policy : request_.policies)
      if (auto scored = score(policy); !scored) return tl::unexpected(scored.error());
    return {};
  }

  result<void> measure_peaks() {
    if (auto reset = reset_peak_memory(); !reset) return reset;
    const std::size_t idle = resident_bytes();
    {
      engine::kv_cache cache(model_.runner.cache_shape(), request_.tokens);
      if (auto done = forward(cache); !done) return done;
      prefill_peak_ = peak_resident_bytes() - idle;
      cache_bytes_ = cache.allocated_bytes();
    }
    for (std::size_t i = 0; i < request_.policies.size(); ++i) {
      if (auto reset = reset_peak_memory(); !reset) return reset;
      const std::size_t before = resident_bytes();
      if (auto scored = score(request_.policies[i]); !scored) return tl::unexpected(scored.error());
      scoring_[i].peak_bytes = peak_resident_bytes() - before;
    }
    return {};
  }

  result<void> round() {
    engine::kv_cache context(model_.runner.cache_shape(), request_.tokens + request_.decoded_tokens);
    auto started = clock::now();
    if (auto done = forward(context); !done) return done;
    const double prefill = milliseconds_since(started);
    prefill_ms_.push_back(prefill);
    const auto whole = decode(context);
    if (!whole) return tl::unexpected(whole.error());
    whole_token_ms_.push_back(*whole);
    for (std::size_t i = 0; i < request_.policies.size(); ++i) {
      started = clock::now();
      const auto scores = score(request_.policies[i]);
      if (!scores) return tl::unexpected(scores.error());
      const double ms = milliseconds_since(started);
      scoring_[i].ms.push_back(ms);
      scoring_[i].ratios.push_back(ms / prefill);
      for (std::size_t r = 0; r < request_.ratios.size(); ++r)
        if (auto done = measure_decode(context, *scores, request_.ratios[r], *whole, decode_[i][r]); !done)
          return done;
    }
    return {};
  }

  profile_result finish() const {
    profile_result found{.tokens = request_.tokens,
                         .prefill = {median(prefill_ms_), prefill_peak_, cache_bytes_},
                         .scoring = {},
                         .whole_token_ms = median(whole_token_ms_),
                         .decode = {}};
    for (std::size_t i = 0; i < request_.policies.size(); ++i) {
      const auto& scoring = scoring_[i];
      found.scoring.push_back({request_.policies[i], median(scoring.ms), median(scoring.ratios),
                               scoring.peak_bytes,
                               static_cast<double>(scoring.peak_bytes) /
                                   static_cast<double>(std::max<std::size_t>(prefill_peak_, 1))});
      for (std::size_t r = 0; r < request_.ratios.size(); ++r) {
        const auto& decode = decode_[i][r];
        found.decode.push_back({request_.policies[i], request_.ratios[r], decode.cache_bytes,
                                median(decode.keep_ms), median(decode.token_ms), median(decode.ratios)});
      }
    }
    return found;
  }

 private:
  result<void> forward(engine::kv_cache& cache) {
    engine::row_batch batch;
    for (std::uint32_t i = 0; i < request_.tokens; ++i)
      batch.add(tokens_[i], static_cast<std::int32_t>(i), 1);
    engine::kv_cache* const caches[] = {&cache};
    return model_.runner.forward(batch, caches, {});
  }

  // The context computed and scored, from nothing.
  result<policies::score_table> score(policies::importance_policy policy) {
    const engine::scoring_request request{.policy = policy,
                                          .tokens = tokens_,
                                          .repeat = &plan_.prompt,
                                          .chunks = plan_.chunks(0, request_.tokens)};
    engine::kv_cache cache(model_.runner.cache_shape(), engine::scoring_capacity_rows(request));
    return scorer_.score(cache, request);
  }

  // Milliseconds of a token; the cache is afterwards as it was before.
  result<double> decode(engine::kv_cache& cache) {
    const auto end = static_cast<std::int32_t>(request_.tokens);
    engine::kv_cache* const caches[] = {&cache};
    const auto started = clock::now();
    for (std::uint32_t i = 0; i < request_.decoded_tokens; ++i) {
      engine::row_batch row;
      row.add(tokens_[i % tokens_.size()], end + static_cast<std::int32_t>(i), 0);
      row.logits_rows = {0};
      if (auto done = model_.runner.forward(row, caches, logits_); !done) return tl::unexpected(done.error());
    }
    const double ms = milliseconds_since(started) / request_.decoded_tokens;
    cache.truncate(end);
    return ms;
  }

  result<void> measure_decode(engine::kv_cache& context, const policies::score_table& scores, double ratio,
                              double whole_token_ms, measured_decode& measured) {
    const auto decimal = policies::decimal_ratio::from(ratio);
    if (!decimal) return tl::unexpected(decimal.error());
    const auto started = clock::now();
    const auto kept = policies::keep_rows(scores, {.ratio = *decimal});
    if (!kept) return tl::unexpected(kept.error());
    auto session = engine::copy_kept_rows(context, *kept, request_.decoded_tokens);
    if (!session) return tl::unexpected(session.error());
    measured.keep_ms.push_back(milliseconds_since(started));
    measured.cache_bytes = session->allocated_bytes();
    const auto token_ms = decode(*session);
    if (!token_ms) return tl::unexpected(token_ms.error());
    measured.token_ms.push_back(*token_ms);
    measured.ratios.push_back(*token_ms / whole_token_ms);
    return {};
  }

  loaded_model& model_;
  const profile_request& request_;
  engine::repeat_plan plan_;
  engine::row_scorer scorer_;
  std::vector<float> logits_;
  std::vector<token_id> tokens_;
  std::vector<double> prefill_ms_, whole_token_ms_;
  std::size_t prefill_peak_ = 0, cache_bytes_ = 0;
  std::vector<measured_scoring> scoring_;             // by policy
  std::vector<std::vector<measured_decode>> decode_;  // by policy and ratio
};

}  // namespace

result<profile_result> profile_model(loaded_model& model, const profile_request& request,
                                     const profile_progress& progress) {
  if (request.tokens == 0 || request.decoded_tokens == 0 || request.rounds == 0)
    return fail(errc::invalid_argument, "there is nothing to measure with 0 tokens or rounds");
  auto plan = engine::repeat_plan_for(model.runner.config(), model.tokens, model.format);
  if (!plan) return tl::unexpected(plan.error());
  profiler measuring(model, request, std::move(*plan));
  progress("warming up");
  if (auto done = measuring.warm_up(); !done) return tl::unexpected(done.error());
  progress("peak memory");
  if (auto done = measuring.measure_peaks(); !done) return tl::unexpected(done.error());
  for (std::uint32_t round = 0; round < request.rounds; ++round) {
    progress("round " + std::to_string(round + 1) + " of " + std::to_string(request.rounds));
    if (auto done = measuring.round(); !done) return tl::unexpected(done.error());
  }
  return measuring.finish();
}

}  // namespace weft::launcher::study
