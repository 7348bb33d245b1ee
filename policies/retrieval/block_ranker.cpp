#include <weft/kernels/top_k.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>

#include "retrieval/rankers.hpp"

#include <numeric>
#include <utility>

namespace weft::policies::retrieval {

namespace {

// Every block is as good as any other.
class equal_ranker final : public block_ranker {
 public:
  explicit equal_ranker(ranked_context context) : held_(std::move(context.held)) {}

  void add_keys(std::uint32_t, std::uint32_t, std::uint32_t, std::span<const float>) override {}
  void score(std::uint32_t, const query_group&, shard_scores& out, kernels::thread_pool&) override {
    out.blocks = held_;
    out.sums.assign(held_.size(), 0.0F);
    out.totals.clear();
  }
  std::size_t allocated_bytes() const override { return held_.size() * sizeof(std::uint32_t); }

 private:
  std::vector<std::uint32_t> held_;
};

}  // namespace

ranked_context whole_context(const ranked_shape& shape, std::span<const context_document> documents,
                             const block_plan& plan, std::span<const float> frequencies) {
  const auto middle = plan.middle_blocks();
  ranked_context context{.shape = shape,
                         .documents = {documents.begin(), documents.end()},
                         .middle = {middle.begin(), middle.end()},
                         .held = std::vector<std::uint32_t>(middle.size()),
                         .frequencies = {frequencies.begin(), frequencies.end()}};
  std::iota(context.held.begin(), context.held.end(), 0U);
  return context;
}

std::unique_ptr<block_ranker> make_ranker(const options& chosen, ranked_context context) {
  switch (chosen.chosen) {
    case policy::kvstar:
    case policy::kvstar_ahead:
      return make_kvstar_ranker(chosen, std::move(context));
    case policy::esa:
      return make_esa_ranker(chosen, std::move(context));
    case policy::quest:
      return make_quest_ranker(chosen, std::move(context));
    case policy::full:
      break;
  }
  return std::make_unique<equal_ranker>(std::move(context));
}

void choose_winners(std::span<const float> scores, std::span<std::uint32_t> out) {
  kernels::top_k(scores, out);
}

}  // namespace weft::policies::retrieval
