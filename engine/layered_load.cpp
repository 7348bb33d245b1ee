#include <weft/engine/layered_load.hpp>

#include "block_scatter.hpp"

#include <string>
#include <utility>
#include <vector>

namespace weft::engine {

namespace {

using policies::document_source;
using policies::stitch_plan;

// Puts every layer of the documents in place before the rows of the first chunk attend to it.
class layered_documents final : public forward_observer {
 public:
  layered_documents(layer_scatter& scatter, const layer_arrival& wait) : scatter_(scatter), wait_(wait) {}

  shown_parts sees(std::uint32_t) const override { return {}; }
  void before_rows(std::uint32_t layer, std::uint32_t first_row) override {
    if (first_row != 0 || !outcome_) return;
    outcome_ = wait_(layer);
    if (outcome_) outcome_ = scatter_.run(layer);
  }

  // What stopped it: the rows that were computed since then mean nothing.
  const result<void>& outcome() const { return outcome_; }

 private:
  layer_scatter& scatter_;
  const layer_arrival& wait_;
  result<void> outcome_;
};

result<void> check_plan(const stitch_plan& plan, const kv_cache& cache) {
  if (plan.selector)
    return fail(errc::unsupported, "a plan that chooses rows needs the documents before it computes any");
  for (const auto& document : plan.documents)
    if (document.source == document_source::encode)
      return fail(errc::unsupported, "a plan that encodes documents cannot load the others layer by layer");
  if (plan.prompt_tokens > cache.capacity_rows())
    return fail(errc::out_of_space, "a prompt of " + std::to_string(plan.prompt_tokens) +
                                        " tokens does not fit into a KV cache of " +
                                        std::to_string(cache.capacity_rows()) + "; ask with fewer documents");
  return {};
}

}  // namespace

result<void> prefill_while_loading(runner& model, kv_cache& cache, const stitch_plan& plan,
                                   std::span<const document_blocks> documents, const layer_arrival& wait,
                                   std::span<float> logits, loaded_rows wanted) {
  layer_scatter scatter(model, cache, wanted_by(plan, wanted));
  result<std::vector<placed_block>> placed;
  auto ready = check_plan(plan, cache);
  if (ready) {
    placed = placed_blocks(model, cache, plan, documents);
    ready = placed ? scatter.prepare(*placed) : tl::unexpected(placed.error());
  }
  if (ready) ready = reserve_computed_rows(cache, plan);
  if (ready = model.agreed(std::move(ready)); !ready) return ready;
  layered_documents loading(scatter, wait);
  const auto computed = prefill(model, cache, plan, logits, &loading);
  result<void> outcome = computed ? loading.outcome() : tl::unexpected(computed.error());
  if (outcome = model.agreed(std::move(outcome)); !outcome) cache.truncate(0);
  return outcome;
}

result<void> verify_documents(runner& model, std::span<const document_blocks> documents) {
  std::vector<const block::view*> blocks;
  for (const document_blocks document : documents)
    for (const block::view& block : document)
      blocks.push_back(&block);
  std::vector<result<void>> outcomes(blocks.size());
  model.threads().parallel_for(blocks.size(),
                               [&](std::size_t i, unsigned) { outcomes[i] = blocks[i]->verify_bands(); });
  for (auto& outcome : outcomes)
    if (!outcome) return std::move(outcome);
  return {};
}

}  // namespace weft::engine
