#include <weft/launcher/study/export_retrieval.hpp>
#include <weft/launcher/study/export_tensors.hpp>
#include <weft/launcher/study/loaded_model.hpp>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

using namespace weft::launcher::study;
using nlohmann::json;

namespace {

weft::engine::runner small_model() {
  auto loaded = weft::engine::runner::load(WEFT_SOURCE_DIR "/tests/fixtures/llama",
                                           options_for_dtype("f32", 2).value());
  REQUIRE_MESSAGE(loaded.has_value(), loaded.error().context);
  return std::move(*loaded);
}

std::vector<int> ids(std::size_t count, int first) {
  std::vector<int> tokens;
  for (std::size_t i = 0; i < count; ++i)
    tokens.push_back((first + 37 * static_cast<int>(i)) % 160);
  return tokens;
}

json sample_input() {
  return {{"tokens", ids(60, 3)},
          {"question", ids(7, 11)},
          {"system", 2},
          {"documents", {25, 33}},
          {"options",
           {{"block_tokens", 6},
            {"init_blocks", 1},
            {"local_blocks", 1},
            {"sparse_ratio", 0.4},
            {"stride", 3},
            {"dim_ratio", 0.5},
            {"token_merge", 4}}}};
}

// The rotated queries of every row, as the forward pass hands them out.
class query_recorder final : public weft::engine::forward_observer {
 public:
  void layer_queries(std::uint32_t layer, std::uint32_t, std::uint32_t rows, const float* q,
                     std::size_t stride) override {
    if (queries.size() <= layer) queries.resize(layer + 1);
    for (std::size_t row = 0; row < rows; ++row)
      queries[layer].emplace_back(q + row * stride, q + (row + 1) * stride);
  }
  std::vector<std::vector<std::vector<float>>> queries;  // [layer][row]
};

// Everything by its definition, in double precision.
class by_definition {
 public:
  by_definition(weft::engine::runner& model, const retrieval_request& request)
      : config_(model.config()), request_(request), frequencies_(model.rope_frequencies()) {
    keys_ = kv_of(model, request.prompt).value().k;
    weft::engine::row_batch rows;
    for (std::size_t i = 0; i < request.prompt.tokens.size(); ++i)
      rows.add(request.prompt.tokens[i], static_cast<std::int32_t>(i), request.prompt.segments[i]);
    weft::engine::kv_cache cache(model.cache_shape(), 200);
    weft::engine::kv_cache* const caches[] = {&cache};
    REQUIRE(model.forward(rows, caches, {}, &recorder_));
    for (const auto& document : request.documents)
      for (std::uint32_t first = 0; first + 6 <= document.tokens; first += 6)
        starts_.push_back(document.start_position + static_cast<int>(first));
  }

  // Starts of all full blocks.
  const std::vector<int>& starts() const { return starts_; }

  const float* query(std::size_t layer, std::size_t back, std::size_t head) const {
    const auto& rows = recorder_.queries[layer];
    return rows[rows.size() - back].data() + head * config_.head_dim;
  }

  std::vector<double> key(std::size_t layer, std::size_t kv_head, std::size_t token) const {
    const float* k =
        keys_.data() +
        ((layer * config_.kv_heads + kv_head) * request_.prompt.tokens.size() + token) * config_.head_dim;
    return {k, k + config_.head_dim};
  }

  std::vector<double> rotated(const std::vector<double>& x, double position) const {
    const std::size_t half = config_.head_dim / 2;
    std::vector<double> out(2 * half);
    for (std::size_t j = 0; j < half; ++j) {
      const double angle = frequencies_[j] * static_cast<float>(position);
      out[j] = x[j] * std::cos(angle) - x[half + j] * std::sin(angle);
      out[half + j] = x[half + j] * std::cos(angle) + x[j] * std::sin(angle);
    }
    return out;
  }

  std::set<std::size_t> kept_pairs(std::size_t layer, std::size_t kv_head, int block_start) const {
    const std::size_t half = config_.head_dim / 2;
    const auto document = std::ranges::find_if(request_.documents, [&](const auto& d) {
      return block_start >= d.start_position && block_start < d.start_position + static_cast<int>(d.tokens);
    });
    std::vector<std::pair<double, std::size_t>> pairs;
    for (std::size_t j = 0; j < half; ++j) {
      double sum = 0;
      for (std::uint32_t t = 0; t < document->tokens; ++t) {
        const auto k = key(layer, kv_head, static_cast<std::size_t>(document->start_position) + t);
        sum += std::abs(k[j]) + std::abs(k[j + half]);
      }
      pairs.emplace_back(-sum, j);
    }
    std::ranges::sort(pairs);
    std::set<std::size_t> kept;
    for (std::size_t i = 0; i < static_cast<std::size_t>(std::floor(half * 0.5 + 0.5)); ++i)
      kept.insert(pairs[i].second);
    return kept;
  }

  // Merged vectors of a block: tokens 0-3 and 4-5.
  std::vector<std::pair<double, std::vector<double>>> merged(std::size_t layer, std::size_t kv_head,
                                                             int start) const {
    std::vector<std::pair<double, std::vector<double>>> out;
    for (const auto& [first, end] : {std::pair{0, 4}, std::pair{4, 6}}) {
      std::vector<double> mean(config_.head_dim, 0.0);
      double position = 0;
      for (int t = first; t < end; ++t) {
        const auto k = key(layer, kv_head, static_cast<std::size_t>(start + t));
        for (std::size_t d = 0; d < k.size(); ++d)
          mean[d] += k[d] / (end - first);
        position += static_cast<double>(start + t) / (end - first);
      }
      out.emplace_back(position, mean);
    }
    return out;
  }

  std::vector<double> kvstar(std::size_t layer, std::span<const int> middle, std::size_t steps) const {
    const std::size_t half = config_.head_dim / 2;
    std::vector<double> scores(middle.size(), 0.0);
    for (std::size_t back = steps; back > 0; --back)
      for (std::size_t head = 0; head < config_.query_heads; ++head) {
        const std::size_t kv_head = head / (config_.query_heads / config_.kv_heads);
        std::vector<std::pair<std::size_t, double>> weights;
        double sum = 0;
        for (std::size_t i = 0; i < middle.size(); ++i) {
          const auto kept = kept_pairs(layer, kv_head, middle[i]);
          for (const auto& [position, mean] : merged(layer, kv_head, middle[i])) {
            const auto there = rotated(mean, position);
            double product = 0;
            for (const std::size_t j : kept)
              product += there[j] * query(layer, back, head)[j] +
                         there[j + half] * query(layer, back, head)[j + half];
            weights.emplace_back(i, std::exp(product));
            sum += std::exp(product);
          }
        }
        for (const auto& [i, weight] : weights)
          scores[i] += weight / sum;
      }
    return scores;
  }

  double esa(std::size_t layer, int start) const {
    double sum = 0;
    for (std::size_t head = 0; head < config_.query_heads; ++head)
      for (int t = 0; t < 6; ++t)
        sum += product(layer, head, start + t) / 6;
    return sum;
  }

  double quest(std::size_t layer, std::size_t head, int start) const {
    double bound = 0;
    for (std::size_t d = 0; d < config_.head_dim; ++d) {
      double low = 1e300;
      double high = -1e300;
      for (int t = 0; t < 6; ++t) {
        const auto k = rotated_key(layer, head, start + t);
        low = std::min(low, k[d]);
        high = std::max(high, k[d]);
      }
      bound += std::max(query(layer, 1, head)[d] * low, query(layer, 1, head)[d] * high);
    }
    return bound;
  }

 private:
  std::vector<double> rotated_key(std::size_t layer, std::size_t head, int token) const {
    return rotated(
        key(layer, head / (config_.query_heads / config_.kv_heads), static_cast<std::size_t>(token)), token);
  }
  double product(std::size_t layer, std::size_t head, int token) const {
    const auto k = rotated_key(layer, head, token);
    double sum = 0;
    for (std::size_t d = 0; d < k.size(); ++d)
      sum += k[d] * query(layer, 1, head)[d];
    return sum;
  }

  const weft::engine::model_config& config_;
  const retrieval_request& request_;
  std::span<const float> frequencies_;
  std::vector<float> keys_;
  query_recorder recorder_;
  std::vector<int> starts_;
};

void refused(const json& input, const std::string& part) {
  auto model = small_model();
  const auto request = retrieval_request_from(input, model.config());
  REQUIRE(!request);
  CHECK(request.error().context.find(part) != std::string::npos);
}

}  // namespace

TEST_CASE("exported scores, bounds and representations equal their definitions") {
  auto model = small_model();
  const auto& config = model.config();
  const auto request = retrieval_request_from(sample_input(), config);
  REQUIRE_MESSAGE(request.has_value(), request.error().context);
  const auto found = retrieval_of(model, *request);
  REQUIRE(found);
  const by_definition expected(model, *request);
  REQUIRE(found->blocks == 4 + 5);
  REQUIRE(found->middle == 7);
  REQUIRE(found->merged == 2);
  REQUIRE(found->winners_count == 3);
  const auto middle = std::span(expected.starts()).subspan(1, 7);
  for (std::size_t layer = 0; layer < config.layers; ++layer) {
    const auto scores = expected.kvstar(layer, middle, 3);
    for (std::size_t i = 0; i < middle.size(); ++i) {
      CHECK(found->block_scores[layer * 7 + i] == doctest::Approx(scores[i]).epsilon(1e-3));
      CHECK(found->esa_scores[layer * 7 + i] ==
            doctest::Approx(expected.esa(layer, middle[i])).epsilon(1e-3).scale(0.1));
      for (std::size_t head = 0; head < config.query_heads; ++head)
        CHECK(found->quest_bounds[(layer * config.query_heads + head) * 7 + i] ==
              doctest::Approx(expected.quest(layer, head, middle[i])).epsilon(1e-3).scale(0.1));
    }
    for (std::size_t rank = 0; rank < 3; ++rank) {
      const auto winner = static_cast<std::size_t>(found->winners[layer * 3 + rank]);
      const auto better = std::ranges::count_if(scores, [&](double s) { return s > scores[winner] * 1.001; });
      CHECK(better <= static_cast<std::ptrdiff_t>(rank));
    }
    for (std::size_t head = 0; head < config.kv_heads; ++head)
      for (std::size_t block = 0; block < found->blocks; ++block) {
        const int start = expected.starts()[block];
        const auto merged = expected.merged(layer, head, start);
        const std::size_t document = block < 4 ? 0 : 1;
        for (std::size_t m = 0; m < 2; ++m)
          for (std::size_t c = 0; c < found->kept; ++c) {
            const auto channel = static_cast<std::size_t>(
                found->channels[((layer * 2 + document) * config.kv_heads + head) * found->kept + c]);
            const float value =
                found->representation[(((layer * config.kv_heads + head) * found->blocks + block) * 2 + m) *
                                          found->kept +
                                      c];
            CHECK(value == doctest::Approx(merged[m].second[channel]).epsilon(1e-4).scale(0.01));
          }
      }
  }
}

TEST_CASE("documents with lengths see only themselves; without lengths the context is one sequence") {
  auto model = small_model();
  auto input = sample_input();
  const auto apart = retrieval_request_from(input, model.config()).value();
  CHECK(apart.prompt.segments[1] == 0);
  CHECK(apart.prompt.segments[2] == 1);
  CHECK(apart.prompt.segments[27] == 2);
  CHECK(apart.prompt.segments.back() == 0);
  input.erase("documents");
  const auto one = retrieval_request_from(input, model.config()).value();
  CHECK(std::ranges::count(one.prompt.segments, 0) == 67);
  REQUIRE(one.documents.size() == 1);
  CHECK(one.documents[0].start_position == 2);
  CHECK(one.documents[0].tokens == 58);
}

TEST_CASE("a context too short for middle blocks gives empty tensors") {
  auto model = small_model();
  const auto request = retrieval_request_from({{"tokens", ids(40, 1)}, {"question", {5}}}, model.config());
  REQUIRE(request);
  const auto found = retrieval_of(model, *request);
  REQUIRE(found);
  CHECK(found->blocks == 0);
  CHECK(found->block_scores.empty());
  CHECK(found->winners.empty());
}

TEST_CASE("wrong input is refused by its key") {
  auto input = sample_input();
  input["documents"] = {25, 32};
  refused(input, "documents");
  input = sample_input();
  input["system"] = 60;
  refused(input, "system");
  input = sample_input();
  input["options"]["sparse_ratio"] = 0;
  refused(input, "sparse_ratio");
  input = sample_input();
  input["options"]["scale"] = "half";
  refused(input, "half");
  input = sample_input();
  input.erase("question");
  refused(input, "question");
  input = sample_input();
  input["options"]["stride"] = "8";
  refused(input, "stride");
}
