#include <weft/engine/scoring.hpp>

#include <doctest/doctest.h>

#include "importance_reference.hpp"
#include "small_models.hpp"

#include <array>
#include <filesystem>

using namespace weft::engine;
using namespace weft::engine::test;
using weft::errc;
using weft::policies::importance_policy;
using weft::policies::score_table;

namespace {

constexpr double tolerance = 1e-3;

score_table scored(runner& model, const scoring_request& request, std::uint32_t more_rows = 0) {
  row_scorer scorer(model);
  kv_cache cache(model.cache_shape(), scoring_capacity_rows(request) + more_rows);
  auto scores = scorer.score(cache, request);
  REQUIRE_MESSAGE(scores.has_value(), scores.error().context);
  for (std::uint32_t layer = 0; layer < cache.shape().layers; ++layer)
    for (std::uint32_t head = 0; head < cache.shape().kv_heads; ++head)
      CHECK(cache.rows(layer, head) == request.tokens.size());
  return std::move(*scores);
}

score_table empty_table(const runner& model, std::size_t tokens) {
  return score_table({model.config().layers, model.config().kv_heads, static_cast<std::uint32_t>(tokens)});
}

// Calls `add(attention of query head, layer, KV head, query head)` for every query head.
template <class Add>
void over_query_heads(runner& model, const Add& add) {
  const std::size_t group = model.config().query_heads / model.config().kv_heads;
  for (std::size_t layer = 0; layer < model.config().layers; ++layer)
    for (std::size_t head = 0; head < model.config().query_heads; ++head)
      add(layer, head / group, head);
}

bool anything(std::size_t) {
  return true;
}

struct context {
  std::vector<token_id> tokens;
  std::vector<std::int32_t> segments;
};

context document_alone(std::size_t tokens, std::uint32_t seed) {
  return {some_tokens(tokens, seed), std::vector<std::int32_t>(tokens, 1)};
}

// An opening of two tokens and two documents.
context two_documents(std::uint32_t seed) {
  context made{some_tokens(70, seed), std::vector<std::int32_t>(70, 1)};
  made.segments[0] = made.segments[1] = 0;
  std::fill(made.segments.begin() + 30, made.segments.end(), 2);
  return made;
}

std::vector<double> output_projection(const std::string& fixture, std::size_t layer) {
  auto files = tensor_files::open(std::filesystem::path(WEFT_SOURCE_DIR) / "tests" / "fixtures" / fixture);
  REQUIRE(files);
  const auto* tensor = files->find("model.layers." + std::to_string(layer) + ".self_attn.o_proj.weight");
  REQUIRE(tensor != nullptr);
  std::vector<float> wide(tensor->shape[0] * tensor->shape[1]);
  weft::kernels::to_f32(tensor->dtype, tensor->bytes.data(), wide.data(), wide.size());
  return {wide.begin(), wide.end()};
}

// |W_O v| of a query head, from the weights themselves.
double gain(const std::vector<double>& projection, const model_config& config, std::size_t head,
            const std::vector<double>& value) {
  const std::size_t width = std::size_t{config.query_heads} * config.head_dim;
  std::vector<double> out(config.hidden_size, 0.0);
  for (std::size_t row = 0; row < out.size(); ++row)
    for (std::size_t d = 0; d < value.size(); ++d)
      out[row] += projection[row * width + head * config.head_dim + d] * value[d];
  return norm(out);
}

// kvzip by definition: per chunk one pass behind the whole context, in one forward pass with it.
score_table kvzip_by_definition(runner& model, const std::string& fixture, const context& c,
                                const scoring_request& request,
                                const std::vector<std::vector<token_id>>& passes, bool weighed,
                                bool repeated_rows_only = false) {
  const std::size_t n = c.tokens.size();
  auto scores = empty_table(model, n);
  for (std::size_t p = 0; p < passes.size(); ++p) {
    const repeat_chunk& chunk = request.chunks[p];
    auto tokens = c.tokens;
    auto segments = c.segments;
    tokens.insert(tokens.end(), passes[p].begin(), passes[p].end());
    segments.resize(tokens.size(), 0);
    whole_pass pass(model, tokens, segments);
    const std::size_t hidden = model.config().hidden_size;
    over_query_heads(model, [&](std::size_t layer, std::size_t kv_head, std::size_t head) {
      const auto a = pass.attention(layer, head, [&](std::size_t i) {
        return i < request.system_rows || (i >= chunk.first && i < chunk.end) || i >= n;
      });
      const auto projection = weighed ? output_projection(fixture, layer) : std::vector<double>{};
      const auto out = scores.head(layer * model.config().kv_heads + kv_head);
      for (std::size_t i = 0; i < n; ++i) {
        if (i >= request.system_rows && (i < chunk.first || i >= chunk.end)) continue;
        const double factor =
            weighed ? gain(projection, model.config(), head, pass.value(layer, kv_head, i)) : 1;
        const std::size_t repeated = chunk.end - chunk.first - chunk.skip;
        for (std::size_t j = repeated_rows_only ? pass.rows() - repeated : n; j < pass.rows(); ++j) {
          const float* h = pass.hidden[layer].data() + j * hidden;
          const double divisor = weighed ? norm({h, h + hidden}) : 1;
          out[i] = std::max(out[i], static_cast<float>(a[j][i] * factor / divisor));
        }
      }
    });
  }
  return scores;
}

const repeat_prompt tail_prompt{{7, 8, 9}, {10, 11}, {12}, 5, hint_source::previous_tail};
const repeat_prompt head_prompt{{7, 8, 9}, {}, {12, 13}, 4, hint_source::chunk_head};

}  // namespace

TEST_CASE("kvzip and kvzip_plus are maxima over the passes that repeat the context") {
  for (const std::string fixture : {"llama", "qwen3"}) {
    CAPTURE(fixture);
    auto options = exact_options();
    options.chunk_rows = 17;  // passes come in several parts
    auto model = load_fixture(fixture, options);
    const context c = document_alone(61, 3);
    scoring_request request{.tokens = c.tokens,
                            .segments = c.segments,
                            .system_rows = 2,
                            .repeat = &tail_prompt,
                            .chunks = chunks_of(2, 61, 25)};
    const auto slice = [&](std::size_t first, std::size_t end) {
      return std::vector<token_id>(c.tokens.begin() + static_cast<std::ptrdiff_t>(first),
                                   c.tokens.begin() + static_cast<std::ptrdiff_t>(end));
    };
    const auto join = [](std::vector<std::vector<token_id>> parts) {
      std::vector<token_id> all;
      for (const auto& part : parts)
        all.insert(all.end(), part.begin(), part.end());
      return all;
    };
    const std::vector<std::vector<token_id>> passes{join({{7, 8, 9}, {12}, slice(2, 27)}),
                                                    join({{10, 11}, slice(22, 27), {12}, slice(27, 52)}),
                                                    join({{10, 11}, slice(47, 52), {12}, slice(52, 61)})};
    for (const auto policy : {importance_policy::kvzip, importance_policy::kvzip_plus}) {
      request.policy = policy;
      const auto expected =
          kvzip_by_definition(model, fixture, c, request, passes, policy == importance_policy::kvzip_plus);
      CHECK(score_error(scored(model, request), expected) < tolerance);
      request.options.repeated_rows_only = true;
      const auto of_repeated = kvzip_by_definition(model, fixture, c, request, passes,
                                                   policy == importance_policy::kvzip_plus, true);
      CHECK(score_error(of_repeated, expected) > tolerance);
      CHECK(score_error(scored(model, request), of_repeated) < tolerance);
      request.options.repeated_rows_only = false;
    }
  }
}

TEST_CASE("kvzip over documents, each a chunk with a hint from its own head") {
  auto model = load_fixture("llama");
  const context c = two_documents(5);
  scoring_request request{.tokens = c.tokens,
                          .segments = c.segments,
                          .system_rows = 2,
                          .repeat = &head_prompt,
                          .chunks = {{2, 30, 1}, {30, 70, 1}}};
  std::vector<std::vector<token_id>> passes;
  for (const auto& chunk : request.chunks) {
    std::vector<token_id> pass{7, 8, 9};
    const auto body = c.tokens.begin() + static_cast<std::ptrdiff_t>(chunk.first + 1);
    pass.insert(pass.end(), body, body + 4);
    pass.insert(pass.end(), {12, 13});
    pass.insert(pass.end(), body, c.tokens.begin() + static_cast<std::ptrdiff_t>(chunk.end));
    passes.push_back(pass);
  }
  const auto expected = kvzip_by_definition(model, "llama", c, request, passes, false);
  CHECK(score_error(scored(model, request), expected) < tolerance);
}

TEST_CASE("snapkv pools what the last rows attend to") {
  auto options = exact_options();
  options.chunk_rows = 19;
  auto model = load_fixture("llama", options);
  for (const bool alone : {true, false}) {
    const context c = alone ? document_alone(66, 8) : two_documents(9);
    const std::size_t n = c.tokens.size();
    whole_pass pass(model, c.tokens, c.segments);
    auto expected = empty_table(model, n);
    over_query_heads(model, [&](std::size_t layer, std::size_t kv_head, std::size_t head) {
      const auto a = pass.attention(layer, head, anything);
      const auto out = expected.head(layer * model.config().kv_heads + kv_head);
      std::vector<double> mean(n - 32, 0.0);
      for (std::size_t i = 0; i < mean.size(); ++i)
        for (std::size_t j = n - 32; j < n; ++j)
          mean[i] += a[j][i] / 32;
      for (std::size_t i = 0; i < mean.size(); ++i) {
        double largest = 0;
        for (std::size_t x = i < 3 ? 0 : i - 3; x <= std::min(i + 3, mean.size() - 1); ++x)
          largest = std::max(largest, mean[x]);
        out[i] += static_cast<float>(largest / static_cast<double>(pass.group()));
      }
      std::fill(out.begin() + static_cast<std::ptrdiff_t>(n - 32), out.end(), 1.0F);
    });
    CHECK(
        score_error(
            scored(model, {.policy = importance_policy::snapkv, .tokens = c.tokens, .segments = c.segments}),
            expected) < tolerance);
  }
}

TEST_CASE("h2o is the mean attention of the rows that see a token, tova that of the last row") {
  auto options = exact_options();
  options.chunk_rows = 16;
  auto model = load_fixture("qwen3", options);
  for (const bool alone : {true, false}) {
    const context c = alone ? document_alone(50, 8) : two_documents(9);
    const std::size_t n = c.tokens.size();
    whole_pass pass(model, c.tokens, c.segments);
    auto h2o = empty_table(model, n);
    auto tova = empty_table(model, n);
    over_query_heads(model, [&](std::size_t layer, std::size_t kv_head, std::size_t head) {
      const auto a = pass.attention(layer, head, anything);
      for (std::size_t i = 0; i < n; ++i) {
        double sum = 0;
        int rows = 0;
        for (std::size_t j = i; j < n; ++j) {
          if (!pass.may_see(j, i)) continue;
          sum += a[j][i];
          ++rows;
        }
        h2o.head(layer * model.config().kv_heads + kv_head)[i] +=
            static_cast<float>(sum / rows / static_cast<double>(pass.group()));
        for (std::size_t other = 0; other < model.config().kv_heads; ++other)
          tova.head(layer * model.config().kv_heads + other)[i] +=
              static_cast<float>(a[n - 1][i] / model.config().query_heads);
      }
    });
    scoring_request request{.tokens = c.tokens, .segments = c.segments};
    request.policy = importance_policy::h2o;
    CHECK(score_error(scored(model, request), h2o) < tolerance);
    request.policy = importance_policy::tova;
    CHECK(score_error(scored(model, request), tova) < tolerance);
  }
}

TEST_CASE("expected attention is the softmax of a Gaussian's moments") {
  auto options = exact_options();
  options.chunk_rows = 13;
  auto model = load_fixture("llama", options);
  const context c = document_alone(40, 21);
  const std::size_t n = c.tokens.size();
  const std::size_t width = model.config().head_dim;
  const std::size_t half = width / 2;
  whole_pass pass(model, c.tokens, c.segments);
  const auto frequencies = model.rope_frequencies();
  auto expected = empty_table(model, n);
  // A rotation as a matrix, so that its transpose is its inverse.
  const auto rotation = [&](double position) {
    matrix r(width, std::vector<double>(width, 0.0));
    for (std::size_t j = 0; j < half; ++j) {
      const double angle = double{frequencies[j]} * position;
      r[j][j] = r[j + half][j + half] = std::cos(angle);
      r[j][j + half] = -std::sin(angle);
      r[j + half][j] = std::sin(angle);
    }
    return r;
  };
  matrix future(width, std::vector<double>(width, 0.0));
  for (std::size_t p = n; p < n + 512; ++p) {
    const auto r = rotation(static_cast<double>(p));
    for (std::size_t a = 0; a < width; ++a)
      for (std::size_t b = 0; b < width; ++b)
        future[a][b] += r[a][b] / 512;
  }
  over_query_heads(model, [&](std::size_t layer, std::size_t kv_head, std::size_t head) {
    // Queries as they were before RoPE, then as they will be on average.
    matrix queries;
    std::vector<double> mean(width, 0.0);
    for (std::size_t j = 4; j < n; ++j) {
      const auto q = pass.query(layer, head, j);
      const auto r = rotation(static_cast<double>(j));
      std::vector<double> before(width, 0.0), later(width, 0.0);
      for (std::size_t a = 0; a < width; ++a)
        for (std::size_t b = 0; b < width; ++b)
          before[a] += r[b][a] * q[b];
      for (std::size_t a = 0; a < width; ++a)
        for (std::size_t b = 0; b < width; ++b)
          later[a] += future[a][b] * before[b];
      queries.push_back(later);
      for (std::size_t a = 0; a < width; ++a)
        mean[a] += later[a] / static_cast<double>(n - 4);
    }
    std::vector<double> weights(n, 0.0);
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto k = pass.key(layer, kv_head, i);
      double first = 0, second = 0;
      for (std::size_t d = 0; d < width; ++d)
        first += mean[d] * k[d];
      for (const auto& q : queries) {
        double z = 0;
        for (std::size_t d = 0; d < width; ++d)
          z += (q[d] - mean[d]) * k[d];
        second += z * z / static_cast<double>(queries.size());
      }
      const auto dim = static_cast<double>(width);
      sum += weights[i] = std::exp(first / std::sqrt(dim) + second / (2 * dim));
    }
    for (std::size_t i = 0; i < n; ++i)
      expected.head(layer * model.config().kv_heads + kv_head)[i] +=
          static_cast<float>(weights[i] / sum / static_cast<double>(pass.group()));
  });
  float largest = 0;
  for (std::size_t head = 0; head < expected.shape.heads(); ++head)
    for (std::size_t i = 0; i < n; ++i) {
      float& score = expected.head(head)[i];
      score = (score + 0.02F) * static_cast<float>(norm(pass.value(head / expected.shape.kv_heads,
                                                                   head % expected.shape.kv_heads, i)));
      largest = std::max(largest, score);
    }
  for (std::size_t head = 0; head < expected.shape.heads(); ++head)
    std::fill_n(expected.head(head).begin(), 4, largest);
  CHECK(score_error(scored(model, {.policy = importance_policy::expected_attention,
                                   .tokens = c.tokens,
                                   .segments = c.segments}),
                    expected) < tolerance);
}

TEST_CASE("knorm and keydiff look at rotated keys alone") {
  auto model = load_fixture("llama");
  const context c = document_alone(37, 2);
  whole_pass pass(model, c.tokens, c.segments);
  auto small = empty_table(model, 37);
  auto different = empty_table(model, 37);
  for (std::size_t head = 0; head < small.shape.heads(); ++head) {
    const auto key = [&](std::size_t i) {
      return pass.key(head / small.shape.kv_heads, head % small.shape.kv_heads, i);
    };
    std::vector<double> mean(model.config().head_dim, 0.0);
    for (std::size_t i = 0; i < 37; ++i)
      for (std::size_t d = 0; d < mean.size(); ++d)
        mean[d] += key(i)[d] / norm(key(i)) / 37;
    for (std::size_t i = 0; i < 37; ++i) {
      double product = 0;
      for (std::size_t d = 0; d < mean.size(); ++d)
        product += mean[d] * key(i)[d];
      small.head(head)[i] = static_cast<float>(-norm(key(i)));
      different.head(head)[i] = static_cast<float>(-product / norm(mean) / norm(key(i)));
    }
  }
  scoring_request request{.policy = importance_policy::knorm, .tokens = c.tokens, .segments = c.segments};
  CHECK(score_error(scored(model, request), small) < tolerance);
  request.policy = importance_policy::keydiff;
  CHECK(score_error(scored(model, request), different) < tolerance);
}

TEST_CASE("a few tokens have finite scores whatever the policy") {
  auto model = load_fixture("llama");
  for (std::size_t tokens = 1; tokens <= 6; ++tokens)
    for (const auto policy : weft::policies::all_importance_policies()) {
      if (policy == importance_policy::kvzap_linear || policy == importance_policy::kvzap_mlp) continue;
      CAPTURE(tokens);
      CAPTURE(weft::policies::name_of(policy));
      const context c = document_alone(tokens, 4);
      const auto scores = scored(model, {.policy = policy,
                                         .tokens = c.tokens,
                                         .repeat = &tail_prompt,
                                         .chunks = chunks_of(0, static_cast<std::uint32_t>(tokens), 2000)});
      for (const float score : scores.values)
        CHECK(std::isfinite(score));
    }
}

TEST_CASE("scores do not depend on how a pass is cut") {
  const context c = two_documents(12);
  scoring_request request{.tokens = c.tokens,
                          .segments = c.segments,
                          .system_rows = 2,
                          .repeat = &head_prompt,
                          .chunks = {{2, 30, 0}, {30, 70, 0}}};
  auto model = load_fixture("llama");
  auto options = exact_options();
  options.chunk_rows = 7;
  options.threads = 1;
  auto in_parts = load_fixture("llama", options);
  for (const auto policy : {importance_policy::kvzip, importance_policy::h2o, importance_policy::snapkv,
                            importance_policy::expected_attention}) {
    request.policy = policy;
    CHECK(score_error(scored(model, request), scored(in_parts, request)) < 1e-4);
  }
}

TEST_CASE("requests that contradict themselves are refused") {
  auto model = load_fixture("llama");
  row_scorer scorer(model);
  const context c = document_alone(10, 4);
  const auto refused = [&](const scoring_request& request, errc code) {
    kv_cache cache(model.cache_shape(), 64);
    const auto scores = scorer.score(cache, request);
    REQUIRE(!scores);
    CHECK(scores.error().code == code);
  };
  refused({.policy = importance_policy::knorm}, errc::invalid_argument);
  refused({.tokens = c.tokens}, errc::invalid_argument);
  refused({.tokens = c.tokens, .repeat = &tail_prompt, .chunks = {{0, 6, 0}, {5, 10, 0}}},
          errc::invalid_argument);
  refused({.tokens = c.tokens, .repeat = &tail_prompt, .chunks = {{0, 11, 0}}}, errc::invalid_argument);
  refused({.tokens = c.tokens, .repeat = &tail_prompt, .chunks = {{0, 3, 3}}}, errc::invalid_argument);
  refused({.policy = importance_policy::knorm, .tokens = c.tokens, .system_rows = 11},
          errc::invalid_argument);
  refused({.policy = importance_policy::kvzap_mlp, .tokens = c.tokens}, errc::not_found);
  kv_cache small(model.cache_shape(), 12);
  const auto full =
      scorer.score(small, {.tokens = c.tokens, .repeat = &tail_prompt, .chunks = chunks_of(0, 10, 2000)});
  REQUIRE(!full);
  CHECK(full.error().code == errc::out_of_space);
}
