#include "model_rank.hpp"

#include <weft/engine/document.hpp>
#include <weft/engine/question_queries.hpp>
#include <weft/engine/stitch.hpp>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

namespace weft::actors {

namespace {

result<void> scatter(model_rank& rank, engine::kv_cache& cache, const load_ranks& order,
                     std::span<const block::view> blocks) {
  std::vector<engine::placed_block> placed;
  auto position = order.start_position;
  for (const auto& view : blocks) {
    placed.push_back({.block = &view,
                      .bands = std::min(order.bands, view.bands_present()),
                      .start_position = position,
                      .segment = order.segment});
    position += static_cast<std::int32_t>(view.dimensions().tokens);
  }
  return engine::scatter_blocks(*rank.model, cache, placed);
}

result<void> load_blocks(model_rank& rank, engine::kv_cache& cache, const load_ranks& order,
                         const engine::fetched_blocks& fetched) {
  const auto shared = engine::shared_blocks::broadcast(*rank.group, 0, order.blocks, fetched);
  if (!shared) return tl::make_unexpected(shared.error());
  return rank.model->agreed(scatter(rank, cache, order, shared->blocks()));
}

result<void> compute_document(model_rank& rank, engine::kv_cache& cache, const load_ranks& order) {
  const auto document = engine::encode_document(*rank.model, order.tokens);
  result<void> done;
  if (document)
    done = engine::scatter_document(*rank.model, cache, *document, order.start_position, order.segment);
  else
    done = tl::make_unexpected(document.error());
  return rank.model->agreed(std::move(done));
}

// The sessions of a rank that does what it is told.
class followed_sessions {
 public:
  followed_sessions(model_rank& rank, std::span<const engine::token_id> stop_tokens)
      : rank_(rank), stop_tokens_(stop_tokens.begin(), stop_tokens.end()), decoding_(*rank.model) {}

  // What an order could not do is known to rank 0, which goes on; an error ends the following.
  result<void> carry_out(const rank_order& order) {
    switch (order.kind) {
      case order_kind::idle:
        return {};
      case order_kind::open:
        return open(order.fields);
      case order_kind::load:
        return load(order.fields);
      case order_kind::generate:
        return generate(order.fields);
      case order_kind::step:
        (void)decoding_.step();
        return {};
      case order_kind::close:
        return close(order.fields);
      case order_kind::queries:
        return queries(order.fields);
    }
    return fail(errc::corrupt, "an order to the ranks of a group is none");
  }

 private:
  result<void> open(std::span<const std::byte> fields) {
    open_ranks order;
    if (auto whole = read(fields, order); !whole) return whole;
    if (auto cache = open_together(rank_, order)) caches_.emplace(order.session, std::move(*cache));
    return {};
  }

  result<void> load(std::span<const std::byte> fields) {
    load_ranks order;
    if (auto whole = read(fields, order); !whole) return whole;
    const auto found = caches_.find(order.session);
    if (found == caches_.end()) return unknown(order.session);
    (void)load_together(rank_, found->second, order, {});
    return {};
  }

  result<void> generate(std::span<const std::byte> fields) {
    generate_ranks order;
    if (auto whole = read(fields, order); !whole) return whole;
    auto found = caches_.extract(order.session);
    if (!found) return unknown(order.session);
    std::vector<float> logits(rank_.model->config().vocab_size);
    const engine::generation_options options{
        .sampled = {.temperature = order.temperature, .top_p = order.top_p, .seed = order.seed},
        .stop_tokens = stop_tokens_,
        .max_tokens = order.max_tokens};
    if (!engine::prefill(*rank_.model, found.mapped(), order.plan, logits)) return {};
    (void)decoding_.add(order.session, std::move(found.mapped()),
                        static_cast<std::int32_t>(order.plan.prompt_tokens), logits, options);
    return {};
  }

  result<void> close(std::span<const std::byte> fields) {
    std::uint64_t session = 0;
    if (auto whole = read(fields, session); !whole) return whole;
    caches_.erase(session);
    (void)decoding_.remove(session);
    return {};
  }

  result<void> queries(std::span<const std::byte> fields) {
    query_ranks order;
    if (auto whole = read(fields, order); !whole) return whole;
    (void)queries_together(rank_, order);
    return {};
  }

  static result<void> unknown(std::uint64_t session) {
    return fail(errc::internal, "the group's leading rank speaks of session " + std::to_string(session) +
                                    ", which is not here");
  }

  model_rank& rank_;
  std::vector<engine::token_id> stop_tokens_;
  std::unordered_map<std::uint64_t, engine::kv_cache> caches_;  // of sessions that do not generate yet
  engine::decode_batch decoding_;
};

}  // namespace

std::vector<std::uint32_t> own_rows(const engine::runner& model, std::span<const std::uint32_t> whole) {
  const auto heads = model.spec().kv_heads;
  const auto& kept = model.shard().kv_heads;
  std::vector<std::uint32_t> rows;
  for (std::size_t layer = 0; layer * heads < whole.size(); ++layer) {
    const auto own = whole.subspan(layer * heads + kept.first, kept.count);
    rows.insert(rows.end(), own.begin(), own.end());
  }
  return rows;
}

result<engine::kv_cache> open_together(model_rank& rank, const open_ranks& order) {
  engine::kv_cache cache(rank.model->cache_shape(), own_rows(*rank.model, order.capacity_rows));
  const auto ready = rank.model->agreed(engine::reserve_computed_rows(cache, order.plan));
  if (!ready) return tl::make_unexpected(ready.error());
  return cache;
}

result<void> load_together(model_rank& rank, engine::kv_cache& cache, const load_ranks& order,
                           const engine::fetched_blocks& fetched) {
  return order.blocks.empty() ? compute_document(rank, cache, order)
                              : load_blocks(rank, cache, order, fetched);
}

result<std::vector<float>> queries_together(model_rank& rank, const query_ranks& order) {
  auto own = engine::question_queries(*rank.model, order.tokens, order.layer, order.rows);
  result<void> found;
  if (!own) found = tl::make_unexpected(own.error());
  if (auto all_found = rank.model->agreed(std::move(found)); !all_found)
    return tl::make_unexpected(all_found.error());
  // Each rank knows the queries of its own heads, and nothing of the others'.
  const std::size_t head_dim = rank.model->config().head_dim;
  const auto& heads = rank.model->shard().query_heads;
  const std::size_t width = rank.model->spec().query_heads * head_dim;
  std::vector<float> all(order.rows * width);
  for (std::size_t row = 0; row < order.rows; ++row)
    std::copy_n(own->begin() + static_cast<std::ptrdiff_t>(row * heads.count * head_dim),
                heads.count * head_dim,
                all.begin() + static_cast<std::ptrdiff_t>(row * width + heads.first * head_dim));
  if (auto summed = rank.group->all_reduce(all); !summed) return tl::make_unexpected(summed.error());
  return all;
}

result<void> follow(model_rank& rank, std::span<const engine::token_id> stop_tokens,
                    const std::atomic<bool>& stop) {
  followed_sessions sessions(rank, stop_tokens);
  for (;;) {
    const auto order = take_order(*rank.group);
    if (!order) return tl::make_unexpected(order.error());
    if (stop) return {};
    if (auto done = sessions.carry_out(*order); !done) return done;
  }
}

}  // namespace weft::actors
