// Budgets against the definitions, by sorting.
#include <weft/policies/budget.hpp>
#include <weft/policies/score_order.hpp>

#include <doctest/doctest.h>

#include "random_scores.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <tuple>

using namespace weft;
using namespace weft::policies;

namespace {

struct row {
  std::size_t head;  // layer * kv_heads + kv_head
  std::size_t token;
};

// The rows of some heads in the order in which they are kept.
std::vector<row> ordered(const score_table& scores, std::size_t first_head, std::size_t heads,
                         std::size_t first_token) {
  std::vector<row> rows;
  for (std::size_t head = first_head; head < first_head + heads; ++head)
    for (std::size_t token = first_token; token < scores.shape.tokens; ++token)
      rows.push_back({head, token});
  std::ranges::sort(rows, {}, [&](const row& r) {
    return std::tuple(-int{order_key(scores.head(r.head)[r.token])}, r.head, r.token);
  });
  return rows;
}

class by_definition {
 public:
  by_definition(const score_table& scores, const budget& wanted)
      : scores_(scores), wanted_(wanted), kept_(scores.shape) {}

  kept_rows run() {
    const std::size_t layers = scores_.shape.layers;
    const std::size_t heads = scores_.shape.kv_heads;
    const std::size_t all = layers * heads;
    const std::size_t rows = scores_.shape.tokens - wanted_.protected_rows;
    const std::size_t each = count(rows);
    switch (wanted_.kind) {
      case budget_kind::global:
        take(0, all, count(all * rows));
        break;
      case budget_kind::uniform:
        for (std::size_t head = 0; head < all; ++head)
          take(head, 1, each);
        break;
      case budget_kind::adakv:
        for (std::size_t layer = 0; layer < layers; ++layer)
          take_adaptively(layer * heads, heads, each);
        break;
      case budget_kind::pyramid: {
        const auto counts = pyramid(layers, each, rows);
        for (std::size_t head = 0; head < all; ++head)
          take(head, 1, counts[head / heads]);
        break;
      }
      case budget_kind::head:
        take_heads(all);
        break;
      case budget_kind::threshold:
        for (std::size_t i = 0; i < kept_.kept.size(); ++i)
          kept_.kept[i] = scores_.values[i] >= wanted_.least_score;
        break;
    }
    finish(all);
    return kept_;
  }

 private:
  // Ratios of the tests have two decimals.
  std::size_t count(std::size_t rows) const {
    const auto hundredths = static_cast<std::size_t>(std::lround(wanted_.ratio.value() * 100));
    return (rows * hundredths + 50) / 100;
  }

  void take(std::size_t first, std::size_t heads, std::size_t rows) {
    const auto order = ordered(scores_, first, heads, wanted_.protected_rows);
    for (std::size_t i = 0; i < std::min(rows, order.size()); ++i)
      kept_.head(order[i].head)[order[i].token] = 1;
  }

  static std::vector<std::size_t> rounded(const std::vector<double>& shares) {
    std::vector<std::size_t> whole, order(shares.size());
    for (const double share : shares)
      whole.push_back(static_cast<std::size_t>(std::floor(share + 1e-9)));
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
      return shares[a] - static_cast<double>(whole[a]) > shares[b] - static_cast<double>(whole[b]) + 1e-9;
    });
    const auto total =
        static_cast<std::size_t>(std::lround(std::accumulate(shares.begin(), shares.end(), 0.0)));
    for (std::size_t i = 0; std::accumulate(whole.begin(), whole.end(), std::size_t{0}) < total; ++i)
      ++whole[order[i]];
    return whole;
  }

  void take_adaptively(std::size_t first, std::size_t heads, std::size_t each) {
    const auto order = ordered(scores_, first, heads, wanted_.protected_rows);
    std::vector<double> shares(heads, 0.2 * static_cast<double>(each));
    for (std::size_t i = 0; i < heads * each; ++i)
      shares[order[i].head - first] += 0.8;
    const auto counts = rounded(shares);
    for (std::size_t h = 0; h < heads; ++h)
      take(first + h, 1, counts[h]);
  }

  static std::vector<std::size_t> pyramid(std::size_t layers, std::size_t each, std::size_t rows) {
    const auto c = static_cast<double>(each);
    double least = c / 20;
    double most = 2 * c - least;
    if (most > static_cast<double>(rows)) {
      most = static_cast<double>(rows);
      least = 2 * c - most;
    }
    std::vector<double> shares(layers, c);
    for (std::size_t layer = 0; layers > 1 && layer < layers; ++layer)
      shares[layer] = most - (most - least) * static_cast<double>(layer) / static_cast<double>(layers - 1);
    return rounded(shares);
  }

  void take_heads(std::size_t all) {
    std::vector<std::size_t> order(all);
    std::iota(order.begin(), order.end(), std::size_t{0});
    const auto worth = [&](std::size_t head) {
      float best = -INFINITY;
      for (std::size_t i = wanted_.protected_rows; i < scores_.shape.tokens; ++i)
        best = std::max(best, scores_.head(head)[i]);
      return wanted_.head_scores.empty() ? best : wanted_.head_scores[head];
    };
    std::ranges::stable_sort(order, std::greater<>{},
                             [&](std::size_t head) { return order_key(worth(head)); });
    if (scores_.shape.tokens == wanted_.protected_rows) return;
    for (std::size_t i = 0; i < count(all); ++i)
      std::ranges::fill(kept_.head(order[i]), std::uint8_t{1});
  }

  void finish(std::size_t all) {
    for (std::size_t head = 0; head < all; ++head) {
      for (std::size_t i = 0; i < wanted_.protected_rows; ++i)
        kept_.head(head)[i] = 1;
      if (kept_.count(head) == 0) kept_.head(head)[ordered(scores_, head, 1, 0).front().token] = 1;
    }
  }

  const score_table& scores_;
  const budget& wanted_;
  kept_rows kept_;
};

constexpr std::array all_kinds{budget_kind::global,  budget_kind::uniform, budget_kind::adakv,
                               budget_kind::pyramid, budget_kind::head,    budget_kind::threshold};

budget some_budget(std::mt19937& random, const score_table& scores, budget_kind kind) {
  budget wanted{.kind = kind};
  wanted.ratio = decimal_ratio::from(std::uniform_int_distribution<int>(0, 100)(random) / 100.0).value();
  wanted.least_score = scores.values.front();
  if (random() % 2 == 0)
    wanted.protected_rows = static_cast<std::uint32_t>(random() % (scores.shape.tokens + 1));
  return wanted;
}

}  // namespace

TEST_CASE("every budget keeps what its definition says") {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const score_table scores = testing::some_scores(random);
    for (const budget_kind kind : all_kinds) {
      CAPTURE(name_of(kind));
      const budget wanted = some_budget(random, scores, kind);
      const auto kept = keep_rows(scores, wanted);
      REQUIRE(kept);
      CHECK(kept->kept == by_definition(scores, wanted).run().kept);
    }
  }
}

TEST_CASE("heads are kept by scores that were stored for the model") {
  std::mt19937 random(5);
  score_table scores({.layers = 3, .kv_heads = 2, .tokens = 4});
  const std::vector<float> stored{0.1F, 0.9F, 0.2F, 0.3F, 0.95F, 0.05F};
  budget wanted{.kind = budget_kind::head, .ratio = decimal_ratio::from(0.3).value(), .head_scores = stored};
  const auto kept = keep_rows(scores, wanted);
  REQUIRE(kept);
  for (std::size_t head = 0; head < 6; ++head)
    CHECK(kept->count(head) == (head == 1 || head == 4 ? 4 : 1));
  wanted.head_scores = std::span(stored).first(4);
  CHECK(!keep_rows(scores, wanted));
}

TEST_CASE("what a smaller global ratio keeps a larger one keeps too") {
  for (std::uint32_t seed = 0; seed < 100; ++seed) {
    CAPTURE(seed);
    std::mt19937 random(seed);
    const score_table scores = testing::some_scores(random);
    for (const budget_kind kind : {budget_kind::global, budget_kind::uniform, budget_kind::head}) {
      kept_rows before(scores.shape);
      for (int percent = 0; percent <= 100; percent += 5) {
        const auto kept =
            keep_rows(scores, {.kind = kind, .ratio = decimal_ratio::from(percent / 100.0).value()});
        REQUIRE(kept);
        bool nested = true;
        for (std::size_t i = 0; i < before.kept.size(); ++i)
          nested = nested && before.kept[i] <= kept->kept[i];
        CHECK(nested);
        before = *kept;
      }
      CHECK(before.count() == scores.shape.rows());
    }
  }
}

TEST_CASE("keys keep the order of scores, and zeros are one") {
  const std::vector<float> ascending{-INFINITY, -3e38F, -2.0F, -1.0F, -1e-30F, 0.0F,
                                     1e-30F,    0.5F,   1.0F,  2.0F,  3e38F,   INFINITY};
  for (std::size_t i = 1; i < ascending.size(); ++i)
    CHECK(order_key(ascending[i - 1]) < order_key(ascending[i]));
  CHECK(order_key(-0.0F) == order_key(0.0F));
  CHECK(order_key(NAN) < order_key(-INFINITY));
  CHECK(order_key(1.0F) == order_key(1.0F + 0x1p-8F));
  CHECK(order_key(1.0F) < order_key(1.0F + 0x1p-7F));
}

TEST_CASE("histograms of parts give the cut of the whole") {
  std::mt19937 random(11);
  const score_table scores = testing::some_scores(random, 200);
  score_histogram whole, left, right;
  whole.add(scores.values);
  const std::size_t middle = scores.values.size() / 3;
  left.add(std::span(scores.values).first(middle));
  right.add(std::span(scores.values).subspan(middle));
  left.add(right);
  for (std::uint64_t count = 0; count <= scores.values.size() + 2; ++count)
    CHECK(left.cut(count) == whole.cut(count));
  CHECK(left.rows() == scores.values.size());
}

TEST_CASE("more protected rows than tokens are refused") {
  const score_table scores({.layers = 1, .kv_heads = 1, .tokens = 3});
  const auto kept = keep_rows(scores, {.protected_rows = 4});
  REQUIRE(!kept);
  CHECK(kept.error().code == errc::invalid_argument);
}

TEST_CASE("budgets are found by their names") {
  for (const budget_kind kind : all_kinds)
    CHECK(budget_kind_from_name(name_of(kind)).value() == kind);
  CHECK(budget_kind_from_name("pair").error().context.find("pyramid") != std::string::npos);
}
