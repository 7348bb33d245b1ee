// A session's rows outside the decode cache: pages being filled, pages stored with sketches of their keys, or
// the smallest and largest ones, at hand; pages on their way back.
#pragma once

#include <weft/engine/adaptive/session.hpp>
#include <weft/kernels/attention_weights.hpp>
#include <weft/kernels/block_scores.hpp>
#include <weft/kernels/key_sketches.hpp>

#include <cstdint>
#include <span>
#include <vector>

namespace weft::engine {

class adaptive_session::passive_pages {
 public:
  // sketch_bits: of `policy_needs`.
  passive_pages(runner& model, const row_page_pool& pool, passive_store& store, std::uint32_t sketch_bits,
                adaptive_counters& counters);

  // Before a head's first row: keys [row][head_dim] that show what its keys are like.
  void fit(std::size_t head, std::span<const float> keys);
  // A row that leaves the decode cache. Full pages are stored; `policy` is told.
  void add(std::size_t head, std::uint32_t token, const std::byte* k, const std::byte* v,
           policies::adaptive::cache_policy& policy);
  // Stores pages that are not full.
  void flush(policies::adaptive::cache_policy& policy);

  // Begins to load what the policy wants for a layer whose resident rows are `runs`, by KV head. ahead: the
  // layer has not begun; what is there when it does came on time.
  void begin(std::uint32_t layer, std::span<const std::vector<kernels::kv_run>> runs, const float* q,
             bool ahead, policies::adaptive::cache_policy& policy);
  // What was begun goes into the heads' rows.
  void finish(std::span<paged_rows> heads, policies::adaptive::cache_policy& policy);

  std::size_t summary_bytes() const;
  std::size_t state_bytes() const;

 private:
  static constexpr std::uint32_t tile_pages = kernels::score_tiles::tile_vectors;

  struct head_pages {
    std::vector<std::byte> filling;  // tokens, K rows, V rows of a whole page
    std::uint32_t filled = 0;
    std::uint32_t pages = 0;
    std::vector<kernels::score_tiles> boxes;  // of `tile_pages` pages each; or
    kernels::key_sketches sketches;           // rows in the order of the store
  };
  struct logit_lines {
    std::vector<float> query;   // [group][head_dim], times the scale of the logits
    std::vector<float> logits;  // [group][stride]
    std::size_t stride = 0;
  };
  static std::uint64_t number_of(const policies::adaptive::passive_page& page) {
    return (std::uint64_t{page.head} << 32U) | page.page;
  }
  std::size_t size_of(std::size_t rows) const { return rows * (sizeof(std::uint32_t) + 2 * row_bytes_); }
  std::byte* filling_k(head_pages& own) const {
    return own.filling.data() + page_rows_ * sizeof(std::uint32_t);
  }
  void store(std::size_t head, policies::adaptive::cache_policy& policy);
  void add_summary(head_pages& own, std::uint32_t rows);
  void add_box(head_pages& own, std::span<const float> keys);
  void estimates_of(const head_pages& own, const float* q, logit_lines& out) const;
  void bounds_of(const head_pages& own, const float* q, logit_lines& out);
  void put_back(const std::byte* page, std::size_t page_rows, paged_rows& rows,
                std::span<const std::uint32_t> tokens) const;

  runner& model_;
  passive_store& store_;
  std::uint32_t sketch_bits_;
  adaptive_counters& counters_;
  std::size_t page_rows_, row_bytes_, head_dim_, kv_heads_, group_;
  std::vector<head_pages> heads_;
  std::vector<std::vector<std::uint32_t>> page_sizes_;  // [head][page]
  std::vector<policies::adaptive::passive_page> coming_;
  std::vector<std::uint64_t> numbers_;  // of these pages in the store
  bool begun_ahead_ = false;
  std::vector<float> log_sums_, box_, keys_;
  std::vector<logit_lines> lines_;  // by KV head
  std::vector<policies::adaptive::passive_logits> known_;
  std::vector<kernels::weighed_head> weighed_;
};

}  // namespace weft::engine
