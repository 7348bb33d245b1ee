#include "bpe_merges.hpp"

#include <algorithm>
#include <bit>
#include <limits>
#include <stdexcept>

namespace weft::engine {

namespace {

constexpr std::uint32_t none = std::numeric_limits<std::uint32_t>::max();

std::uint64_t pair_of(token_id left, token_id right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32U |
         static_cast<std::uint32_t>(right);
}

// Lowest rank first, of equal ranks the leftmost.
bool later(const merge_scratch::candidate& a, const merge_scratch::candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

bpe_merges::bpe_merges(const std::array<token_id, 256>& byte_ids, std::span<const merge_rule> rules)
    : byte_ids_(byte_ids), slots_(std::bit_ceil(rules.size() * 2 + 2)) {
  for (std::size_t rank = 0; rank < rules.size(); ++rank) {
    const auto& rule = rules[rank];
    const auto pair = pair_of(rule.left, rule.right);
    std::size_t at = first_slot(pair);
    while (slots_[at].pair != empty_pair && slots_[at].pair != pair)
      at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {pair, static_cast<std::uint32_t>(rank), rule.merged};
  }
}

std::size_t bpe_merges::first_slot(std::uint64_t pair) const {
  const std::uint64_t mixed = (pair ^ (pair >> 29U)) * 0x9e3779b97f4a7c15ULL;
  return static_cast<std::size_t>(mixed >> 32U) & (slots_.size() - 1);
}

const bpe_merges::slot* bpe_merges::find(token_id left, token_id right) const {
  const auto pair = pair_of(left, right);
  for (std::size_t at = first_slot(pair); slots_[at].pair != empty_pair; at = (at + 1) & (slots_.size() - 1))
    if (slots_[at].pair == pair) return &slots_[at];
  return nullptr;
}

void bpe_merges::consider(merge_scratch& scratch, std::uint32_t position) const {
  if (position == none || scratch.symbols[position].next == none) return;
  const auto& symbol = scratch.symbols[position];
  const slot* rule = find(symbol.id, scratch.symbols[symbol.next].id);
  if (rule == nullptr) return;
  scratch.heap.push_back({rule->rank, position, rule->merged});
  std::ranges::push_heap(scratch.heap, later);
}

// Joins the symbol at `position` with its successor, unless an earlier merge has changed one of them.
void bpe_merges::merge(merge_scratch& scratch, std::uint32_t position, token_id merged) const {
  auto& symbols = scratch.symbols;
  auto& left = symbols[position];
  if (left.id < 0 || left.next == none) return;
  auto& right = symbols[left.next];
  const slot* rule = find(left.id, right.id);
  if (rule == nullptr || rule->merged != merged) return;
  left.id = merged;
  left.next = right.next;
  right.id = -1;
  if (left.next != none) symbols[left.next].previous = position;
  consider(scratch, left.previous);
  consider(scratch, position);
}

void bpe_merges::encode(std::string_view word, merge_scratch& scratch, std::vector<token_id>& out) const {
  if (word.size() >= none) throw std::length_error("a word of 4 GiB cannot be tokenised");
  const auto size = static_cast<std::uint32_t>(word.size());
  scratch.symbols.clear();
  scratch.heap.clear();
  for (std::uint32_t i = 0; i < size; ++i)
    scratch.symbols.push_back({byte_ids_[static_cast<unsigned char>(word[i])], i == 0 ? none : i - 1,
                               i + 1 == size ? none : i + 1});
  for (std::uint32_t i = 0; i + 1 < size; ++i)
    consider(scratch, i);
  while (!scratch.heap.empty()) {
    std::ranges::pop_heap(scratch.heap, later);
    const auto best = scratch.heap.back();
    scratch.heap.pop_back();
    merge(scratch, best.position, best.merged);
  }
  for (std::uint32_t i = size == 0 ? none : 0; i != none; i = scratch.symbols[i].next)
    out.push_back(scratch.symbols[i].id);
}

}  // namespace weft::engine
