#include <weft/policies/adaptive/atskv.hpp>
#include <weft/policies/adaptive/threshold_controller.hpp>

#include <doctest/doctest.h>

#include "scripted_session.hpp"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <utility>

using namespace weft::policies::adaptive;
using namespace weft::policies::adaptive::test;

namespace {

constexpr std::uint32_t page_rows = 4;

// A predictor that is a function of one changing feature or none: weight * x + bias.
std::shared_ptr<const relevance_predictor> predictor_of(const session_shape& shape, std::size_t feature,
                                                        float weight, float bias, std::uint32_t units = 0) {
  const feature_layout layout{shape.kv_heads, shape.hidden_size};
  std::vector<layer_predictor> layers;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    layer_predictor made{.units = units,
                         .input = std::vector<float>(std::max(1U, units) * layout.count(), 0.0F),
                         .bias = std::vector<float>(std::max(1U, units), bias),
                         .output = std::vector<float>(units, 1.0F)};
    for (std::size_t line = 0; line < made.lines(); ++line)
      made.input[line * layout.count() + feature] = weight;
    layers.push_back(std::move(made));
  }
  return std::make_shared<relevance_predictor>(layout, std::move(layers), 1.0F);
}

// Carries out what the policy decides, with a store that keeps the pages' tokens, and checks that both agree.
class adaptive_session {
 public:
  adaptive_session(const scripted_session& script, const atskv_options& options,
                   std::shared_ptr<const relevance_predictor> predictor)
      : script_(script),
        options_(options),
        slots_(script.shape.heads()),
        leaving_(script.shape.heads()),
        pages_(script.shape.heads()) {
    auto made = make_atskv(script.shape, options, std::move(predictor));
    REQUIRE_MESSAGE(made.has_value(), made.error().context);
    policy = std::move(*made);
  }

  void begin() {
    test::begin(script_, *policy);
    for (std::uint32_t head = 0; head < slots_.size(); ++head) {
      const auto resident = policy->resident(head);
      slots_[head].assign(resident.begin(), resident.end());
      if (options_.passive)
        for (const std::uint32_t token : policy->leaving(head))
          leaving_[head].push_back(token);
      if (options_.passive) REQUIRE(leaving_[head].size() + resident.size() == script_.prompt_tokens);
      store(head, true);
    }
    check();
  }

  // logit(head, tokens): what a page could get, or a single row; weight(head, token): attention.
  std::function<float(std::uint32_t, const std::vector<std::uint32_t>&)> logit =
      [](std::uint32_t, const std::vector<std::uint32_t>&) { return -20.0F; };
  std::function<float(std::uint32_t, std::uint32_t)> weight =
      [this](std::uint32_t head, std::uint32_t token) { return fraction(77, head, token, now_); };

  void step() {
    const std::uint32_t token = script_.prompt_tokens + now_++;
    for (std::uint32_t layer = 0; layer < script_.shape.layers; ++layer)
      run_layer(layer, token);
    carry_out();
  }

  std::uint64_t rows() const {
    std::uint64_t rows = 0;
    for (const auto& slots : slots_)
      rows += slots.size();
    return rows;
  }
  bool holds(std::uint32_t head, std::uint32_t token) const {
    return std::ranges::find(slots_[head], token) != slots_[head].end();
  }
  void set_rows(std::uint32_t rows) {
    options_.rows = rows;
    policy->set_rows(rows);
    carry_out();
  }

  std::unique_ptr<atskv_policy> policy;
  std::uint64_t promotions = 0;

 private:
  void carry_out() {
    for (const auto& removed : policy->decide()) {
      auto& slots = slots_[removed.head];
      REQUIRE(slots.at(removed.slot) == removed.token);
      if (options_.passive && !removed.stored) leaving_[removed.head].push_back(removed.token);
      slots[removed.slot] = slots.back();
      slots.pop_back();
    }
    for (std::uint32_t head = 0; head < slots_.size(); ++head)
      store(head, false);
    check();
  }

  void run_layer(std::uint32_t layer, std::uint32_t token) {
    const auto& shape = script_.shape;
    if (options_.passive) recall(layer);
    std::vector<std::vector<float>> weights(shape.kv_heads);
    std::vector<head_weights> seen;
    for (std::uint32_t h = 0; h < shape.kv_heads; ++h) {
      const std::uint32_t head = layer * shape.kv_heads + h;
      const auto keys = script_.keys(head, token, 1);
      policy->new_rows(head, token, 1, {keys, keys});
      slots_[head].push_back(token);
      for (std::uint32_t g = 0; g < shape.group(); ++g)
        for (const std::uint32_t t : slots_[head])
          weights[h].push_back(weight(head, t));
      seen.push_back({weights[h]});
    }
    check_budget();
    if (policy->watches(layer)) policy->observe(layer, seen);
  }

  void recall(std::uint32_t layer) {
    const auto& shape = script_.shape;
    std::vector<std::vector<float>> logits(shape.kv_heads);
    const std::vector<float> log_sums(shape.group(), 0.0F);
    std::vector<passive_logits> known;
    for (std::uint32_t h = 0; h < shape.kv_heads; ++h) {
      const std::uint32_t head = layer * shape.kv_heads + h;
      for (std::uint32_t g = 0; g < shape.group(); ++g)
        for (const auto& page : pages_[head]) {
          if (options_.sketch_bits == 0) logits[h].push_back(logit(head, page));
          if (options_.sketch_bits > 0)
            for (const std::uint32_t token : page)
              logits[h].push_back(logit(head, {token}));
        }
      known.push_back({logits[h], logits[h].size() / shape.group(), log_sums});
    }
    const auto found = policy->recall(layer, known);
    const std::vector<passive_page> wanted(found.begin(), found.end());
    for (const auto& page : wanted) {
      const auto back = policy->recalled(page);
      REQUIRE(!back.empty());
      for (const std::uint32_t token : back) {
        REQUIRE(!holds(page.head, token));
        REQUIRE(std::ranges::find(pages_[page.head][page.page], token) != pages_[page.head][page.page].end());
        slots_[page.head].push_back(token);
        ++promotions;
      }
    }
  }

  void store(std::uint32_t head, bool all) {
    auto& leaving = leaving_[head];
    while (leaving.size() >= page_rows || (all && !leaving.empty())) {
      const auto count = static_cast<std::ptrdiff_t>(std::min<std::size_t>(page_rows, leaving.size()));
      pages_[head].emplace_back(leaving.begin(), leaving.begin() + count);
      leaving.erase(leaving.begin(), leaving.begin() + count);
      policy->stored(head, pages_[head].back());
    }
  }

  void check_budget() const {
    const auto& shape = script_.shape;
    const std::uint32_t group = options_.scope == budget_scope::head ? 1
                                : options_.scope == budget_scope::layer
                                    ? shape.kv_heads
                                    : static_cast<std::uint32_t>(shape.heads());
    for (std::size_t first = 0; first < slots_.size(); first += group) {
      std::size_t rows = 0;
      for (std::size_t head = first; head < first + group; ++head)
        rows += slots_[head].size();
      REQUIRE(rows <= std::size_t{options_.rows} * group);
    }
  }

  void check() const {
    check_budget();
    for (std::uint32_t head = 0; head < slots_.size(); ++head)
      REQUIRE(std::ranges::equal(policy->resident(head), slots_[head]));
  }

  scripted_session script_;
  atskv_options options_;
  std::vector<std::vector<std::uint32_t>> slots_, leaving_;
  std::vector<std::vector<std::vector<std::uint32_t>>> pages_;
  std::uint32_t now_ = 0;
};

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinite = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("the rows of a budget never exceed it, whatever the predictor says") {
  struct attack {
    std::size_t feature;
    float weight, bias;
    std::uint32_t units;
  };
  const attack attacks[] = {{0, 0, 50, 0},
                            {0, 0, -50, 0},
                            {0, not_a_number, not_a_number, 0},
                            {2, infinite, -infinite, 0},
                            {0, 30, -15, 0},
                            {2, -40, 5, 0},
                            {3, 9, -1, 0},
                            {1, 5, 0, 3}};
  for (const auto scope : {budget_scope::head, budget_scope::layer, budget_scope::global})
    for (const auto& [passive, bits] : {std::pair{true, 2U}, std::pair{true, 0U}, std::pair{false, 2U}})
      for (const auto& attack : attacks) {
        const scripted_session script;
        adaptive_session session(
            script, {.rows = 24, .scope = scope, .passive = passive, .sketch_bits = bits},
            predictor_of(script.shape, attack.feature, attack.weight, attack.bias, attack.units));
        session.logit = [](std::uint32_t head, const auto& page) {
          return 12 * fraction(5, head, page.front()) - 8;
        };
        session.begin();
        for (int i = 0; i < 60; ++i)
          session.step();
      }
}

TEST_CASE("a budget that changes is kept at once, and the wish meets it within 64 steps") {
  const scripted_session script;
  adaptive_session session(script, {.rows = 60, .scope = budget_scope::global},
                           predictor_of(script.shape, 0, 6, -3));
  session.logit = [](std::uint32_t head, const auto& page) {
    return 10 * fraction(5, head, page.front()) - 8;
  };
  session.begin();
  const auto heads = static_cast<std::uint32_t>(script.shape.heads());
  for (const std::uint32_t rows : {60U, 20U, 90U, 35U}) {
    session.set_rows(rows);
    for (int i = 0; i < 64; ++i)
      session.step();
    // Between what is left free for rows that come back and the whole budget.
    CHECK(session.rows() <= std::uint64_t{rows} * heads);
    CHECK(session.rows() >= std::uint64_t{rows} * heads / 2);
    const auto before = session.policy->quantile(0);
    for (int i = 0; i < 16; ++i)
      session.step();
    CHECK(std::abs(session.policy->quantile(0) - before) < 0.1);
  }
}

TEST_CASE("the controller lets as many rows through as there is room for") {
  for (const double beta : {1.0, 0.9}) {
    threshold_controller controller(beta);
    std::mt19937 random(3);
    std::uniform_real_distribution<float> uniform(0, 1);
    for (const std::uint64_t budget : {100U, 400U, 50U}) {
      std::uint64_t wanted = 0;
      for (int i = 0; i < 64; ++i) {
        std::vector<float> values(1000);
        relevance_counts counts;
        for (float& value : values)
          counts.add(value = uniform(random));
        const float threshold = controller.threshold(counts, budget);
        wanted =
            static_cast<std::uint64_t>(std::ranges::count_if(values, [&](float r) { return r > threshold; }));
        controller.wanted(wanted);
        CHECK(controller.quantile() <= 1.0);
      }
      CHECK(wanted < budget + 150);
      CHECK(wanted + 60 > budget);
    }
  }
}

TEST_CASE("relevances are counted in order; what is no number is nothing") {
  relevance_counts counts;
  counts.add(0.5F, 3);
  counts.add(not_a_number);
  counts.add(-1.0F);
  counts.add(2.0F);
  CHECK(counts.rows() == 6);
  CHECK(counts.element(0) == 0);
  CHECK(counts.element(1) == 0);
  CHECK(counts.element(2) == 0.5F);
  CHECK(counts.element(4) == 0.5F);
  CHECK(counts.element(5) == 1.0F);
}

TEST_CASE("five decisions promote, five demote") {
  smoothed_choice choice{0};
  int steps = 0;
  for (; !choice.promotes(); ++steps)
    choice.add(true);
  CHECK(steps == 5);
  choice.value = 1;
  for (steps = 0; !choice.demotes(); ++steps)
    choice.add(false);
  CHECK(steps == 5);
}

TEST_CASE("no row's state freezes: after 1,000 steps each can still leave and come back") {
  scripted_session script;
  script.shape.layers = 2;
  script.prompt_tokens = 60;
  // Relevance is recent attention.
  adaptive_session session(script, {.rows = 30, .scope = budget_scope::global, .recall_share = 2.0F},
                           predictor_of(script.shape, 0, 40, -30));
  std::uint32_t favourite = 7;
  token_set former;
  session.weight = [&](std::uint32_t, std::uint32_t token) {
    return token == favourite ? 0.9F : former.contains(token) ? 0.0F : 1e-4F;
  };
  session.logit = [&](std::uint32_t, const auto& page) {
    return std::ranges::find(page, favourite) != page.end() ? 5.0F : -30.0F;
  };
  session.begin();
  for (int i = 0; i < 1000; ++i)
    session.step();
  CHECK(session.holds(1, 7));
  for (const std::uint32_t token : {23U, 41U, 11U, 7U}) {
    former.insert(favourite);
    favourite = token;
    former.erase(token);
    for (int i = 0; i < 300; ++i)
      session.step();
    CHECK(session.holds(1, token));
    for (const std::uint32_t other : former)
      CHECK(!session.holds(1, other));
  }
  CHECK(session.promotions > 0);
}

TEST_CASE("rows that could matter come back in the same step, alone or with their page") {
  for (const std::uint32_t bits : {2U, 0U}) {
    // All rows are equally relevant: the smoothed threshold wants none back.
    const scripted_session script;
    adaptive_session session(script, {.rows = 30, .sketch_bits = bits}, predictor_of(script.shape, 0, 0, 0));
    session.begin();
    session.step();
    std::uint32_t wanted = 0;
    while (session.holds(3, wanted))
      ++wanted;
    session.logit = [&](std::uint32_t head, const auto& tokens) {
      return head == 3 && std::ranges::find(tokens, wanted) != tokens.end() ? 4.0F : -30.0F;
    };
    const auto before = session.promotions;
    session.step();
    CHECK(session.promotions > before);
    CHECK((session.promotions == before + 1) == (bits > 0));
  }
}

TEST_CASE("layers take turns at being watched, and the first one is never looked ahead to") {
  const scripted_session script;
  for (const double part : {0.0, 0.25, 0.5, 1.0}) {
    adaptive_session session(script, {.rows = 30, .turn_part = part, .ahead_part = part},
                             predictor_of(script.shape, 0, 6, -3));
    session.begin();
    const auto layers = script.shape.layers;
    const auto wanted = std::max(1U, static_cast<std::uint32_t>(std::ceil(part * layers)));
    std::vector<std::uint32_t> watched(layers, 0);
    for (std::uint32_t i = 0; i < layers; ++i) {
      std::uint32_t turns = 0;
      std::uint32_t ahead = 0;
      for (std::uint32_t layer = 0; layer < layers; ++layer) {
        turns += session.policy->watches(layer) ? 1 : 0;
        watched[layer] += session.policy->watches(layer) ? 1 : 0;
        ahead += session.policy->looks_ahead(layer) ? 1 : 0;
      }
      CHECK(turns == wanted);
      CHECK(ahead == std::min(wanted, layers - 1));
      CHECK(!session.policy->looks_ahead(0));
      session.step();
    }
    for (const std::uint32_t times : watched)
      CHECK(times == wanted);
  }
}

TEST_CASE("without a store only the cap takes rows away") {
  scripted_session script;
  script.prompt_tokens = 20;
  adaptive_session session(script, {.rows = 40, .scope = budget_scope::head, .passive = false},
                           predictor_of(script.shape, 0, 0, -50));
  session.begin();
  for (int i = 0; i < 19; ++i)
    session.step();
  CHECK(session.rows() == 39 * script.shape.heads());
  session.step();
  CHECK(session.rows() == 39 * script.shape.heads());
}

TEST_CASE("predictors of another model are refused") {
  scripted_session script;
  const auto predictor = predictor_of(script.shape, 0, 1, 0);
  auto other = script.shape;
  other.layers = 3;
  CHECK(!make_atskv(other, {}, predictor));
  other = script.shape;
  other.hidden_size = 13;
  CHECK(!make_atskv(other, {}, predictor));
  CHECK(!make_atskv(script.shape, {.rows = 0}, predictor));
  CHECK(!make_atskv(script.shape, {.sketch_bits = 5}, predictor));
  CHECK(!make_atskv(script.shape, {.turn_part = 1.5}, predictor));
}
