// Byte-pair merges: a word starts as its bytes and the pair of lowest rank is merged until none is left.
#pragma once

#include <weft/engine/model_config.hpp>

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace weft::engine {

struct merge_rule {
  token_id left = 0;
  token_id right = 0;
  token_id merged = 0;
};

// Working memory of one thread, kept between words.
struct merge_scratch {
  struct symbol {
    token_id id;
    std::uint32_t previous, next;
  };
  struct candidate {
    std::uint32_t rank, position;
    token_id merged;
  };
  std::vector<symbol> symbols;
  std::vector<candidate> heap;
};

class bpe_merges {
 public:
  // `byte_ids`: the token of every single byte. Rules by ascending rank; of equal pairs the last counts.
  bpe_merges(const std::array<token_id, 256>& byte_ids, std::span<const merge_rule> rules);

  // Appends the tokens of `word`. Time O(n log n). Safe to call from several threads, each with its scratch.
  void encode(std::string_view word, merge_scratch& scratch, std::vector<token_id>& out) const;

 private:
  struct slot {
    std::uint64_t pair = empty_pair;
    std::uint32_t rank = 0;
    token_id merged = 0;
  };
  static constexpr std::uint64_t empty_pair = ~std::uint64_t{0};

  std::size_t first_slot(std::uint64_t pair) const;
  const slot* find(token_id left, token_id right) const;
  void consider(merge_scratch& scratch, std::uint32_t position) const;
  void merge(merge_scratch& scratch, std::uint32_t position, token_id merged) const;

  std::array<token_id, 256> byte_ids_;
  std::vector<slot> slots_;  // open addressing, a power of two
};

}  // namespace weft::engine
