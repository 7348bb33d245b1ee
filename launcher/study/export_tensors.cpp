#include <weft/engine/document.hpp>
#include <weft/engine/stitch.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/launcher/study/export_tensors.hpp>

#include <numeric>

namespace weft::launcher::study {

namespace {

engine::row_batch batch_of(const sequence_request& request) {
  engine::row_batch batch;
  for (std::size_t row = 0; row < request.tokens.size(); ++row)
    batch.add(request.tokens[row], static_cast<std::int32_t>(row), request.segments[row]);
  return batch;
}

// Collects what a forward pass hands out row by row into [layer][kv_head][token][head_dim].
class kv_collector final : public engine::forward_observer {
 public:
  kv_collector(const engine::kv_shape& shape, std::size_t tokens) : shape_(shape), tokens_(tokens) {
    const std::size_t size = std::size_t{shape.layers} * shape.kv_heads * tokens * shape.head_dim;
    found_.k.resize(size);
    found_.v.resize(size);
  }

  void layer_kv(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                const std::byte* v) override {
    const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
    for (std::uint32_t row = 0; row < rows; ++row)
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
        const std::size_t from = (std::size_t{row} * shape_.kv_heads + head) * head_bytes;
        const std::size_t to =
            ((std::size_t{layer} * shape_.kv_heads + head) * tokens_ + first_row + row) * shape_.head_dim;
        kernels::to_f32(shape_.dtype, k + from, &found_.k[to], shape_.head_dim);
        kernels::to_f32(shape_.dtype, v + from, &found_.v[to], shape_.head_dim);
      }
  }

  exported_kv take() { return std::move(found_); }

 private:
  engine::kv_shape shape_;
  std::size_t tokens_;
  exported_kv found_;
};

}  // namespace

result<std::vector<float>> logits_of(engine::runner& model, const sequence_request& request) {
  auto batch = batch_of(request);
  batch.logits_rows.resize(batch.size());
  std::iota(batch.logits_rows.begin(), batch.logits_rows.end(), 0U);
  engine::kv_cache cache(model.cache_shape(), static_cast<std::uint32_t>(batch.size()));
  engine::kv_cache* const caches[] = {&cache};
  std::vector<float> logits(batch.size() * model.config().vocab_size);
  if (auto done = model.forward(batch, caches, logits); !done) return tl::unexpected(done.error());
  return logits;
}

result<exported_kv> kv_of(engine::runner& model, const sequence_request& request) {
  const auto batch = batch_of(request);
  engine::kv_cache cache(model.cache_shape(), static_cast<std::uint32_t>(batch.size()));
  engine::kv_cache* const caches[] = {&cache};
  kv_collector collector(model.cache_shape(), batch.size());
  if (auto done = model.forward(batch, caches, {}, &collector); !done) return tl::unexpected(done.error());
  return collector.take();
}

result<exported_stitching> stitched_of(engine::runner& model, const stitched_request& request) {
  std::vector<policies::prompt_document> documents;
  for (const auto& tokens : request.documents)
    documents.push_back({tokens, false});
  const auto plan = policies::plan_stitch(request.policy, {.opening = request.system,
                                                           .documents = documents,
                                                           .question = request.question,
                                                           .inserted = request.links});
  if (!plan) return tl::unexpected(plan.error());

  engine::kv_cache cache(model.cache_shape(), plan->prompt_tokens);
  const std::vector<engine::document_blocks> nothing_stored(documents.size());
  if (auto done = engine::load_documents(model, cache, *plan, nothing_stored); !done)
    return tl::unexpected(done.error());

  exported_stitching found;
  found.prompt_tokens = plan->prompt_tokens;
  found.logits.resize(std::size_t{plan->question_rows} * model.config().vocab_size);
  const auto whole = engine::prefill(model, cache, *plan, found.logits);
  if (!whole) return tl::unexpected(whole.error());
  found.computed.resize(std::size_t{model.cache_shape().layers} * plan->prompt_tokens, 0);
  const auto mark = [&](std::uint32_t layer, const policies::planned_row& row) {
    found.computed[std::size_t{layer} * plan->prompt_tokens + static_cast<std::size_t>(row.position)] = 1;
  };
  for (std::uint32_t layer = 0; layer < model.cache_shape().layers; ++layer)
    if (plan->selector && layer <= plan->selector->layer)
      for (const auto& row : plan->rows)
        mark(layer, row);
    else
      for (const std::uint32_t row : *whole)
        mark(layer, plan->rows[row]);
  return found;
}

}  // namespace weft::launcher::study
