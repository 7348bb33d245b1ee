#include <weft/policies/adaptive/atskv.hpp>
#include <weft/policies/adaptive/threshold_controller.hpp>

#include "adaptive/atskv_books.hpp"
#include "adaptive/slot_books.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>
#include <utility>

namespace weft::policies::adaptive {

namespace {

constexpr std::uint64_t least_recall_rows = 32;
constexpr std::size_t relevance_tiers = 4;   // of pages that come back whole
constexpr std::uint32_t replayed_rows = 32;  // as many as `attention_trace` remembers

// Heads that share a budget.
struct shared_budget {
  std::uint32_t first = 0;
  std::uint32_t end = 0;
  threshold_controller controller{1};
  std::uint64_t returned = 0;  // rows that this step asked for
  std::uint64_t pending = 0;   // that it asked for and that have not come yet
  std::uint64_t resident = 0;
  float cut = -1;  // relevance of the best row that the cap took away

  std::uint64_t heads() const { return end - first; }
};

class adaptive_policy final : public atskv_policy {
 public:
  adaptive_policy(const session_shape& shape, const atskv_options& options,
                  const std::shared_ptr<const relevance_predictor>& predictor)
      : shape_(shape), options_(options), books_(shape, predictor, options.passive) {
    for (const auto& group : budget_groups(shape, options.scope, options.rows))
      groups_.push_back({group.first, group.end, threshold_controller(predictor->beta())});
    turns_.assign(shape.layers, 1);
    ahead_.assign(shape.layers, 0);
    brought_.assign(shape.layers, 0.0F);
    by_return_.resize(shape.layers - 1);
    std::iota(by_return_.begin(), by_return_.end(), 1U);
  }

  policy_needs needs() const override {
    return {.prompt_replay = replayed_rows,
            .weights = true,
            .keys = true,
            .hidden = true,
            .recalls = options_.passive,
            .sketch_bits = options_.sketch_bits};
  }

  void kinds(std::uint32_t first_token, std::span<const std::uint8_t> kinds) override {
    books_.add_kinds(first_token, kinds);
  }
  void hidden(std::uint32_t layer, std::uint32_t first_token, std::uint32_t rows,
              const float* normed) override {
    books_.add_hidden(layer, first_token, rows, normed);
  }
  void new_rows(std::uint32_t head, std::uint32_t first_token, std::uint32_t rows,
                const row_values& values) override {
    books_.add_rows(head, first_token, rows, values);
  }

  void prompt(const prompt_view&) override {
    for (std::uint32_t layer = 0; layer < shape_.layers; ++layer)
      books_.predict(layer);
    in_prompt_ = false;
    books_.begin_removal();
    for (auto& group : groups_) {
      group.controller.start();
      choose(group, true);
      trim(group, false);
    }
    books_.sort_leaving(by_row() ? 1 : relevance_tiers);
    books_.forget_entered();
    choose_layers();
  }

  bool watches(std::uint32_t layer) const override { return turns_.at(layer) != 0; }
  void observe(std::uint32_t layer, std::span<const head_weights> seen) override {
    books_.add_attention(layer, seen);
    if (in_prompt_)
      books_.next_row(layer);
    else
      books_.predict(layer);
  }

  std::span<const removed_row> decide() override {
    books_.begin_removal();
    for (auto& group : groups_) {
      choose(group, false);
      trim(group, true);
      group.returned = group.pending = 0;
    }
    books_.next_row();
    books_.forget_entered();
    choose_layers();
    return books_.removed();
  }

  std::span<const std::uint32_t> resident(std::uint32_t head) const override { return books_.tokens(head); }

  void stored(std::uint32_t head, std::span<const std::uint32_t> tokens) override {
    books_.store(head, tokens.size());
  }
  std::span<const std::uint32_t> leaving(std::uint32_t head) const override { return books_.leaving(head); }
  bool looks_ahead(std::uint32_t layer) const override { return ahead_.at(layer) != 0; }
  std::span<const passive_page> recall(std::uint32_t layer, std::span<const passive_logits> known) override;
  std::span<const std::uint32_t> recalled(const passive_page& page) override {
    const auto tokens = books_.take_back(page);
    settle(page.head, tokens.size());
    return tokens;
  }
  void lost(const passive_page& page) override { settle(page.head, books_.lose(page)); }

  std::size_t state_bytes() const override {
    return books_.bytes() + candidates_.capacity() * sizeof(candidate) +
           (ranks_.capacity() + rank_counts_.capacity()) * sizeof(float) + wanted_.capacity() * sizeof(wish);
  }
  void set_rows(std::uint32_t rows_of_head) override { options_.rows = std::max(1U, rows_of_head); }
  double quantile(std::size_t group) const override { return groups_[group].controller.quantile(); }

 private:
  struct candidate {
    float rank = 0;
    std::uint32_t head = 0;
    std::uint32_t slot = 0;
    std::uint32_t token = 0;

    // Which of two rows leaves first: among equals the older one.
    friend bool operator<(const candidate& a, const candidate& b) {
      if (a.rank != b.rank) return a.rank < b.rank;
      if (a.token != b.token) return a.token < b.token;
      return a.head > b.head;
    }
  };

  // What comes back as one: a row, or what is absent of a page.
  struct wish {
    float urgency = 0;
    std::uint32_t head = 0;
    std::uint32_t page = 0;
    std::uint32_t first = 0;
    std::uint32_t end = 0;
    std::uint32_t rows = 0;
  };

  bool by_row() const { return options_.sketch_bits > 0; }
  std::uint64_t budget(const shared_budget& group) const { return options_.rows * group.heads(); }

  // A small budget's part is more than its share: fewer rows than that bring nothing back.
  std::uint64_t recall_room(const shared_budget& group) const {
    if (!options_.passive || options_.recall_room <= 0) return 0;
    const std::uint64_t all = budget(group);
    return std::max(static_cast<std::uint64_t>(options_.recall_room * static_cast<double>(all)),
                    std::min<std::uint64_t>(all / 4, least_recall_rows));
  }

  // Rows that stay free: for the next token of each head, and for what comes back.
  std::uint64_t most_rows(const shared_budget& group) const {
    const std::uint64_t all = budget(group);
    const std::uint64_t free = group.heads() + recall_room(group);
    return all > free ? all - free : 0;
  }

  shared_budget& group_of(std::uint32_t head) {
    return *std::ranges::find_if(groups_, [head](const shared_budget& group) { return head < group.end; });
  }
  void settle(std::uint32_t head, std::size_t rows) {
    auto& pending = group_of(head).pending;
    pending -= std::min<std::uint64_t>(pending, rows);
  }

  std::uint64_t resident_rows(const shared_budget& group) const {
    std::uint64_t rows = 0;
    for (std::uint32_t head = group.first; head < group.end; ++head)
      rows += books_.tokens(head).size();
    return rows;
  }

  bool has_turn(std::uint32_t head) const { return turns_[head / shape_.kv_heads] != 0; }

  // Of the rows in the store, those of layers that have their turn are counted and decided on: how many rows
  // each of them stands for.
  std::uint32_t rows_each(const shared_budget& group) const {
    std::uint64_t absent = 0;
    std::uint64_t counted = 0;
    for (std::uint32_t head = group.first; head < group.end; ++head) {
      const auto rows =
          static_cast<std::uint64_t>(std::ranges::count(books_.head(head).states, stored_state::absent));
      absent += rows;
      counted += has_turn(head) ? rows : 0;
    }
    return counted == 0 ? 1 : static_cast<std::uint32_t>((absent + counted / 2) / counted);
  }

  void count(const shared_budget& group, std::uint32_t each) {
    counts_.clear();
    for (std::uint32_t head = group.first; head < group.end; ++head) {
      const auto& own = books_.head(head);
      for (const float relevance : own.slots.relevance)
        counts_.add(relevance);
      if (!has_turn(head)) continue;
      for (std::size_t row = 0; row < own.states.size(); ++row)
        if (own.states[row] == stored_state::absent) counts_.add(own.stored.relevance[row], each);
    }
  }

  static std::uint64_t rows_above(const row_books& rows, float threshold) {
    std::uint32_t count = 0;
    for (const float relevance : rows.relevance)
      count += relevance > threshold ? 1 : 0;
    return count;
  }
  static void add_choices(row_books& rows, float threshold, float kept) {
    for (std::size_t row = 0; row < rows.size(); ++row)
      rows.choices[row].add(rows.relevance[row] > threshold, kept);
  }

  void choose(shared_budget& group, bool first_time) {
    const std::uint32_t each = rows_each(group);
    count(group, each);
    const float threshold = group.controller.threshold(counts_, most_rows(group));
    std::uint64_t wanted = 0;
    for (std::uint32_t head = group.first; head < group.end; ++head) {
      auto& own = books_.head(head);
      if (!has_turn(head)) {
        wanted += rows_above(own.slots, threshold);
        continue;
      }
      const float kept =
          first_time ? 0.0F
                     : smoothed_choice::kept_after((books_.rows_shown(head / shape_.kv_heads) + 1) / 2);
      wanted += rows_above(own.slots, threshold);
      for (std::size_t row = 0; row < own.states.size(); ++row)
        wanted += own.states[row] == stored_state::absent && own.stored.relevance[row] > threshold ? each : 0;
      // What is stored and resident has its choice in its slot, and takes it along when it leaves.
      add_choices(own.slots, threshold, kept);
      add_choices(own.stored, threshold, kept);
    }
    group.controller.wanted(wanted);
  }

  void choose_layers();

  void list_wishes(std::uint32_t head, std::span<const float> shares, float cut);
  void list_urgent(std::uint32_t head, std::span<const float> logits);
  void sort_wishes(std::size_t most);
  bool grant(const wish& wanted, shared_budget& group, std::uint32_t layer);
  void grant_wishes(std::uint32_t layer);
  void trim(shared_budget& group, bool by_choice);
  void rank(std::uint32_t head);
  float rank_of_last(std::size_t leaving);
  void remove_candidates();

  session_shape shape_;
  atskv_options options_;
  atskv_books books_;
  std::vector<shared_budget> groups_;
  bool in_prompt_ = true;
  relevance_counts counts_;
  std::vector<float> ranks_;  // of a group's rows, head by head
  std::vector<std::uint32_t> rank_counts_;
  std::vector<candidate> candidates_;
  std::vector<std::uint32_t> slots_;
  std::vector<wish> wanted_;
  std::vector<passive_page> chosen_pages_;
  std::vector<std::uint8_t> turns_, ahead_;  // by layer: of the coming step
  std::uint32_t next_turn_ = 0;
  std::vector<float> brought_;            // by layer: pages that came back in a step, as a moving mean
  std::vector<std::uint32_t> by_return_;  // layers but the first
};

// How late a row leaves: from 0 to 1 what the smoothed threshold gave up, then the others, then sinks and
// last rows.
void adaptive_policy::rank(std::uint32_t head) {
  const auto& slots = books_.head(head).slots;
  const std::size_t first = ranks_.size();
  ranks_.resize(first + slots.size());
  const std::uint32_t window = std::min(options_.window, options_.rows / 4);
  const std::uint32_t newest = books_.newest();
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    const float relevance = slots.relevance[slot] > 0 ? slots.relevance[slot] : 0.0F;
    const bool kept_first = slots.tokens[slot] < options_.sinks || newest - slots.tokens[slot] < window;
    ranks_[first + slot] = relevance + (kept_first ? 4.0F : slots.choices[slot].demotes() ? 0.0F : 2.0F);
  }
}

void adaptive_policy::trim(shared_budget& group, bool by_choice) {
  ranks_.clear();
  for (std::uint32_t head = group.first; head < group.end; ++head)
    rank(head);
  const std::uint64_t most = most_rows(group);
  const std::size_t leaving = ranks_.size() > most ? ranks_.size() - most : 0;
  // Without a store a row that leaves is gone: then only the cap takes rows away.
  const float given_up = by_choice && options_.passive ? std::nextafter(2.0F, 0.0F) : -1.0F;
  const float last = std::max(given_up, leaving > 0 ? rank_of_last(leaving) : -1.0F);
  candidates_.clear();
  group.cut = -1;
  if (last < 0) return;
  std::size_t row = 0;
  for (std::uint32_t head = group.first; head < group.end; ++head) {
    const auto& tokens = books_.head(head).slots.tokens;
    for (std::uint32_t slot = 0; slot < tokens.size(); ++slot, ++row)
      if (ranks_[row] <= last) candidates_.push_back({ranks_[row], head, slot, tokens[slot]});
  }
  // Whatever the threshold gave up goes; of the others as many as the cap demands.
  const auto by_threshold = static_cast<std::size_t>(
      std::ranges::count_if(candidates_, [&](const candidate& one) { return one.rank <= given_up; }));
  const std::size_t going = std::max(by_threshold, std::min(leaving, candidates_.size()));
  if (going < candidates_.size()) {
    std::nth_element(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(going),
                     candidates_.end());
    candidates_.resize(going);
  }
  if (leaving > 0 && going > 0)
    group.cut = std::max(0.0F, std::max_element(candidates_.begin(), candidates_.end())->rank - 2.0F);
  remove_candidates();
}

// A bound of the rank of the row that is the last one to leave: that of its bin's end.
float adaptive_policy::rank_of_last(std::size_t leaving) {
  constexpr unsigned shift = 15;
  // Not negative, and below 6: the order of such floats is that of their bits.
  constexpr std::size_t bins = (std::bit_cast<std::uint32_t>(6.0F) >> shift) + 1;
  rank_counts_.assign(bins, 0);
  for (const float rank : ranks_)
    ++rank_counts_[std::bit_cast<std::uint32_t>(rank) >> shift];
  std::size_t bin = 0;
  for (std::size_t below = rank_counts_[0]; below < leaving; below += rank_counts_[bin])
    ++bin;
  return std::bit_cast<float>((static_cast<std::uint32_t>(bin) << shift) + ((1U << shift) - 1));
}

void adaptive_policy::remove_candidates() {
  std::ranges::sort(candidates_, {}, [](const candidate& row) { return std::pair(row.head, row.slot); });
  for (std::size_t i = 0; i < candidates_.size();) {
    const std::uint32_t head = candidates_[i].head;
    slots_.clear();
    for (; i < candidates_.size() && candidates_[i].head == head; ++i)
      slots_.push_back(candidates_[i].slot);
    books_.remove(head, slots_);
  }
}

// Rows that could matter now are the most urgent; then those whom the smoothed threshold wants back, where
// the cap would not take them away again at once.
void adaptive_policy::list_wishes(std::uint32_t head, std::span<const float> shares, float cut) {
  const auto& own = books_.head(head);
  const auto urgent = [&](std::uint32_t row) { return shares[row] >= options_.recall_share; };
  const auto wanted = [&](std::uint32_t row) {
    return own.states[row] == stored_state::absent &&
           (urgent(row) || (own.stored.relevance[row] > cut && own.stored.choices[row].promotes()));
  };
  const auto urgency = [&](std::uint32_t row) {
    return urgent(row) ? 1 + shares[row] : own.stored.relevance[row];
  };
  for (std::uint32_t page = 0; page < own.page_ends.size(); ++page) {
    const std::uint32_t first = own.page_begin(page);
    const std::uint32_t end = own.page_ends[page];
    if (by_row()) {
      for (std::uint32_t row = first; row < end; ++row)
        if (wanted(row)) wanted_.push_back({urgency(row), head, page, row, row + 1, 1});
      continue;
    }
    wish whole{0, head, page, first, end, 0};
    bool any = false;
    for (std::uint32_t row = first; row < end; ++row) {
      any = any || wanted(row);
      whole.rows += own.states[row] == stored_state::absent ? 1 : 0;
      whole.urgency = std::max(whole.urgency, urgency(row));
    }
    if (any) wanted_.push_back(whole);
  }
}

// As above, of single rows that could matter now only; nothing is worked out for the others.
void adaptive_policy::list_urgent(std::uint32_t head, std::span<const float> logits) {
  if (options_.recall_share >= 1) return;
  const float least = std::log(options_.recall_share / (1 - options_.recall_share));
  const auto& own = books_.head(head);
  for (std::uint32_t row = 0; row < logits.size(); ++row) {
    if (logits[row] < least || own.states[row] != stored_state::absent) continue;
    const auto page = std::ranges::upper_bound(own.page_ends, row) - own.page_ends.begin();
    const float share = 1 / (1 + std::exp(-logits[row]));
    wanted_.push_back({1 + share, head, static_cast<std::uint32_t>(page), row, row + 1, 1});
  }
}

void adaptive_policy::sort_wishes(std::size_t most) {
  const auto before = [](const wish& a, const wish& b) {
    if (a.urgency != b.urgency) return a.urgency > b.urgency;
    return std::pair(a.head, a.first) < std::pair(b.head, b.first);
  };
  if (wanted_.size() > most) {
    std::nth_element(wanted_.begin(), wanted_.begin() + static_cast<std::ptrdiff_t>(most), wanted_.end(),
                     before);
    wanted_.resize(most);
  }
  std::sort(wanted_.begin(), wanted_.end(), before);
}

bool adaptive_policy::grant(const wish& wanted, shared_budget& group, std::uint32_t layer) {
  // Each head's new row has its place.
  if (group.resident + group.pending + wanted.rows > budget(group) - group.heads()) return false;
  // Layers that come later find their part.
  const std::uint64_t layers = std::max<std::uint64_t>(1, group.heads() / shape_.kv_heads);
  const std::uint64_t part = layers == 1 ? 1 : layer + 1;
  if (group.returned + wanted.rows > recall_room(group) * part / layers) return false;
  group.returned += wanted.rows;
  return true;
}

void adaptive_policy::grant_wishes(std::uint32_t layer) {
  chosen_pages_.clear();
  for (const auto& wanted : wanted_) {
    auto& group = group_of(wanted.head);
    if (!grant(wanted, group, layer)) continue;
    group.pending += wanted.rows;
    auto& states = books_.head(wanted.head).states;
    for (std::uint32_t row = wanted.first; row < wanted.end; ++row)
      if (states[row] == stored_state::absent) states[row] = stored_state::coming;
    chosen_pages_.push_back({wanted.head, wanted.page});
  }
  const auto place = [](const passive_page& page) { return std::pair(page.head, page.page); };
  std::ranges::sort(chosen_pages_, {}, place);
  chosen_pages_.erase(std::unique(chosen_pages_.begin(), chosen_pages_.end()), chosen_pages_.end());
}

// Which layers the coming step decides on, and which it looks ahead to.
void adaptive_policy::choose_layers() {
  const auto part_of = [&](double part) {
    const auto layers = static_cast<std::uint32_t>(std::ceil(part * shape_.layers));
    return std::clamp(layers, 1U, shape_.layers);
  };
  std::ranges::fill(turns_, std::uint8_t{0});
  for (std::uint32_t i = part_of(options_.turn_part); i > 0; --i) {
    turns_[next_turn_] = 1;
    next_turn_ = (next_turn_ + 1) % shape_.layers;
  }
  if (!options_.passive) return;
  std::ranges::stable_sort(by_return_, std::greater<>(),
                           [&](std::uint32_t layer) { return brought_[layer]; });
  std::ranges::fill(ahead_, std::uint8_t{0});
  // The first layer has none before it to look ahead from.
  const std::size_t count = std::min<std::size_t>(part_of(options_.ahead_part), by_return_.size());
  for (const std::uint32_t layer : std::span(by_return_).first(count))
    ahead_[layer] = 1;
}

std::span<const passive_page> adaptive_policy::recall(std::uint32_t layer,
                                                      std::span<const passive_logits> known) {
  wanted_.clear();
  const std::uint32_t first = layer * shape_.kv_heads;
  for (auto& group : groups_)
    if (group.first < first + shape_.kv_heads && group.end > first) group.resident = resident_rows(group);
  std::uint64_t most = 0;
  const bool turn = turns_[layer] != 0;
  for (std::uint32_t h = 0; h < shape_.kv_heads; ++h) {
    const auto& group = group_of(first + h);
    const std::uint64_t held = group.resident + group.pending;
    if (turn || !by_row())
      list_wishes(first + h, books_.shares(h, first + h, known[h], by_row()), group.cut);
    else
      list_urgent(first + h, books_.best_logits(first + h, known[h], true));
    most += budget(group) - std::min(held, budget(group));
  }
  sort_wishes(most);
  grant_wishes(layer);
  brought_[layer] = smoothed_choice::smoothing * brought_[layer] +
                    (1 - smoothed_choice::smoothing) * static_cast<float>(chosen_pages_.size());
  if (turn) books_.predict_stored(layer);
  return chosen_pages_;
}

result<void> check(const session_shape& shape, const atskv_options& options,
                   const relevance_predictor& predictor) {
  if (options.rows == 0)
    return fail(errc::invalid_argument, "a budget of 0 rows leaves nothing to attend to; give at least 1");
  if (!(options.recall_room >= 0 && options.recall_room <= 0.9))
    return fail(errc::invalid_argument,
                "the room for rows that come back must be from 0 to 0.9 of the budget");
  for (const double part : {options.turn_part, options.ahead_part})
    if (!(part >= 0 && part <= 1))
      return fail(errc::invalid_argument,
                  "the part of the layers that a step decides on, or looks ahead to, must "
                  "be from 0 to 1");
  if (options.sketch_bits > 4)
    return fail(errc::invalid_argument,
                "sketches have from 1 to 4 bits for each channel, or 0: bounds of pages");
  return check(predictor, shape);
}

}  // namespace

result<std::unique_ptr<atskv_policy>> make_atskv(const session_shape& shape, const atskv_options& options,
                                                 std::shared_ptr<const relevance_predictor> predictor) {
  if (auto checked = check(shape, options, *predictor); !checked) return tl::unexpected(checked.error());
  return std::make_unique<adaptive_policy>(shape, options, std::move(predictor));
}

}  // namespace weft::policies::adaptive
