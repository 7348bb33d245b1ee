#include <weft/kernels/convert.hpp>
#include <weft/launcher/study/export_retrieval.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>
#include <weft/policies/retrieval/representation.hpp>

#include <algorithm>
#include <numeric>

namespace weft::launcher::study {

namespace {

namespace retrieval = policies::retrieval;

// Keys before RoPE of the context's rows, and queries of the prompt's last ones.
class prompt_collector final : public engine::forward_observer {
 public:
  prompt_collector(const engine::model_config& config, const engine::kv_shape& shape,
                   const retrieval_request& request)
      : config_(config),
        shape_(shape),
        tokens_(request.context_tokens),
        steps_(std::min<std::size_t>(request.options.stride, request.prompt.tokens.size())),
        first_query_(request.prompt.tokens.size() - steps_),
        keys_(std::size_t{shape.layers} * shape.kv_heads * tokens_ * shape.head_dim),
        queries_(shape.layers * steps_ * query_width()) {}

  void layer_kv(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const std::byte* k,
                const std::byte*) override {
    const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
    for (std::size_t row = 0; row < rows && first_row + row < tokens_; ++row)
      for (std::uint32_t head = 0; head < shape_.kv_heads; ++head)
        kernels::to_f32(shape_.dtype, k + (row * shape_.kv_heads + head) * head_bytes,
                        &keys_[((std::size_t{layer} * shape_.kv_heads + head) * tokens_ + first_row + row) *
                               shape_.head_dim],
                        shape_.head_dim);
  }

  void layer_queries(std::uint32_t layer, std::uint32_t first_row, std::uint32_t rows, const float* q,
                     std::size_t row_stride) override {
    for (std::size_t row = 0; row < rows; ++row)
      if (first_row + row >= first_query_)
        std::copy_n(
            q + row * row_stride, query_width(),
            queries_.begin() + static_cast<std::ptrdiff_t>((layer * steps_ + first_row + row - first_query_) *
                                                           query_width()));
  }

  std::span<const float> keys(std::uint32_t layer, std::uint32_t head,
                              const retrieval::context_document& document) const {
    const std::size_t row = (std::size_t{layer} * shape_.kv_heads + head) * tokens_ +
                            static_cast<std::size_t>(document.start_position);
    return std::span(keys_).subspan(row * shape_.head_dim, std::size_t{document.tokens} * shape_.head_dim);
  }
  retrieval::query_group queries(std::uint32_t layer) const {
    return {queries_.data() + layer * steps_ * query_width(), static_cast<std::uint32_t>(steps_),
            query_width()};
  }
  std::size_t query_width() const { return std::size_t{config_.query_heads} * config_.head_dim; }

 private:
  const engine::model_config& config_;
  engine::kv_shape shape_;
  std::size_t tokens_;
  std::size_t steps_;
  std::size_t first_query_;
  std::vector<float> keys_;     // [layer][kv_head][token][head_dim]
  std::vector<float> queries_;  // [layer][step][query_head][head_dim]
};

class exporter {
 public:
  exporter(engine::runner& model, const retrieval_request& request)
      : model_(model),
        request_(request),
        plan_(retrieval::plan_blocks(request.documents, request.options)),
        collected_(model.config(), model.cache_shape(), request) {}

  result<exported_retrieval> run();

 private:
  std::unique_ptr<retrieval::block_ranker> ranker(retrieval::policy policy) const;
  std::vector<float> scores(retrieval::block_ranker& ranker, std::uint32_t layer,
                            const retrieval::query_group& group);
  void add_representation(std::uint32_t layer);
  void add_channels(std::uint32_t layer);
  void add_kvstar();
  void add_esa();
  void add_quest();

  engine::runner& model_;
  const retrieval_request& request_;
  retrieval::block_plan plan_;
  prompt_collector collected_;
  exported_retrieval found_;
};

std::unique_ptr<retrieval::block_ranker> exporter::ranker(retrieval::policy policy) const {
  const auto& config = model_.config();
  auto options = request_.options;
  options.chosen = policy;
  const retrieval::ranked_shape shape{.layers = config.layers,
                                      .query_heads = config.query_heads,
                                      .kv_heads = config.kv_heads,
                                      .head_dim = config.head_dim,
                                      .type = model_.cache_shape().dtype,
                                      .allowed = kernels::products::f32};  // to be compared with
  auto made = retrieval::make_ranker(
      options, retrieval::whole_context(shape, request_.documents, plan_, model_.rope_frequencies()));
  for (std::uint32_t layer = 0; layer < config.layers; ++layer)
    for (std::uint32_t head = 0; head < config.kv_heads; ++head)
      for (std::uint32_t i = 0; i < request_.documents.size(); ++i)
        made->add_keys(layer, head, i, collected_.keys(layer, head, request_.documents[i]));
  return made;
}

std::vector<float> exporter::scores(retrieval::block_ranker& ranker, std::uint32_t layer,
                                    const retrieval::query_group& group) {
  retrieval::shard_scores all;
  ranker.score(layer, group, all, model_.threads());
  std::vector<float> merged(plan_.middle);
  retrieval::merge_shards({&all, 1}, merged);
  return merged;
}

void exporter::add_channels(std::uint32_t layer) {
  for (const auto& document : request_.documents)
    for (std::uint32_t head = 0; head < model_.config().kv_heads; ++head) {
      const auto channels = retrieval::choose_channels(collected_.keys(layer, head, document),
                                                       model_.config().head_dim, found_.kept);
      found_.channels.insert(found_.channels.end(), channels.begin(), channels.end());
    }
}

void exporter::add_representation(std::uint32_t layer) {
  const auto& options = request_.options;
  const std::uint32_t head_dim = model_.config().head_dim;
  const std::size_t size = std::size_t{found_.merged} * found_.kept;
  for (std::uint32_t head = 0; head < model_.config().kv_heads; ++head)
    for (const auto& block : plan_.blocks) {
      const auto keys = collected_.keys(layer, head, request_.documents[block.document]);
      const auto channels = retrieval::choose_channels(keys, head_dim, found_.kept);
      found_.representation.resize(found_.representation.size() + size);
      retrieval::merge_tokens(keys.subspan(std::size_t{block.first_token} * head_dim,
                                           std::size_t{options.block_tokens} * head_dim),
                              head_dim, channels, options.token_merge,
                              std::span(found_.representation).last(size));
    }
}

void exporter::add_kvstar() {
  const auto kvstar = ranker(retrieval::policy::kvstar);
  std::vector<std::int64_t> order(plan_.middle);
  for (std::uint32_t layer = 0; layer < model_.config().layers; ++layer) {
    const auto of_layer = scores(*kvstar, layer, collected_.queries(layer));
    found_.block_scores.insert(found_.block_scores.end(), of_layer.begin(), of_layer.end());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, std::greater<>(),
                             [&](std::int64_t block) { return of_layer[static_cast<std::size_t>(block)]; });
    found_.winners.insert(found_.winners.end(), order.begin(), order.begin() + plan_.winners);
  }
}

void exporter::add_esa() {
  const auto esa = ranker(retrieval::policy::esa);
  for (std::uint32_t layer = 0; layer < model_.config().layers; ++layer) {
    const auto of_layer = scores(*esa, layer, collected_.queries(layer));
    found_.esa_scores.insert(found_.esa_scores.end(), of_layer.begin(), of_layer.end());
  }
}

// A head's own bound is the sum over heads where the others' queries are zero.
void exporter::add_quest() {
  const auto quest = ranker(retrieval::policy::quest);
  const std::size_t head_dim = model_.config().head_dim;
  for (std::uint32_t layer = 0; layer < model_.config().layers; ++layer) {
    const auto group = collected_.queries(layer);
    const float* newest = group.queries + (group.steps - 1) * group.step_stride;
    for (std::size_t head = 0; head < model_.config().query_heads; ++head) {
      std::vector<float> alone(collected_.query_width(), 0.0F);
      std::copy_n(newest + head * head_dim, head_dim,
                  alone.begin() + static_cast<std::ptrdiff_t>(head * head_dim));
      const auto of_head = scores(*quest, layer, {alone.data(), 1, alone.size()});
      found_.quest_bounds.insert(found_.quest_bounds.end(), of_head.begin(), of_head.end());
    }
  }
}

result<exported_retrieval> exporter::run() {
  engine::row_batch batch;
  for (std::size_t row = 0; row < request_.prompt.tokens.size(); ++row)
    batch.add(request_.prompt.tokens[row], static_cast<std::int32_t>(row), request_.prompt.segments[row]);
  engine::kv_cache cache(model_.cache_shape(), static_cast<std::uint32_t>(batch.size()));
  engine::kv_cache* const caches[] = {&cache};
  if (auto done = model_.forward(batch, caches, {}, &collected_); !done) return tl::unexpected(done.error());

  const auto& options = request_.options;
  found_.blocks = static_cast<std::uint32_t>(plan_.blocks.size());
  found_.merged = retrieval::merged_vectors(options.block_tokens, options.token_merge);
  found_.kept = retrieval::kept_channels(model_.config().head_dim, options.dim_ratio);
  found_.middle = plan_.middle;
  found_.winners_count = plan_.winners;
  found_.middle_blocks.resize(plan_.middle);
  std::iota(found_.middle_blocks.begin(), found_.middle_blocks.end(), std::int64_t{plan_.first_middle});
  for (std::uint32_t layer = 0; layer < model_.config().layers; ++layer) {
    add_channels(layer);
    add_representation(layer);
  }
  add_kvstar();
  add_esa();
  add_quest();
  return std::move(found_);
}

}  // namespace

result<exported_retrieval> retrieval_of(engine::runner& model, const retrieval_request& request) {
  return exporter(model, request).run();
}

}  // namespace weft::launcher::study
