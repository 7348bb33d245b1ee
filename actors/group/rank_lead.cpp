#include "rank_lead.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace weft::actors {

namespace {

policies::stitch_plan without_tokens(const policies::stitch_plan& plan) {
  auto copy = plan;
  for (auto& document : copy.documents)
    document.encode_tokens.clear();
  return copy;
}

block::expectation expected(const block::view& view) {
  const auto& id = view.id();
  return {.key = id.key,
          .fingerprint = id.fingerprint,
          .generation = id.generation,
          .incarnation = id.incarnation};
}

std::vector<std::span<const std::byte>> bytes_of(const document_to_load& document) {
  std::vector<std::span<const std::byte>> bytes;
  for (const auto& block : document.blocks)
    bytes.push_back(block->bytes());
  return bytes;
}

}  // namespace

result<void> rank_lead::give(order_kind kind, std::span<const std::byte> fields) {
  if (lost_) return fail(errc::unreachable, "the group lost a rank");
  auto given = give_order(*rank_.group, kind, fields);
  if (!given) lost_ = true;
  return given;
}

result<engine::kv_cache> rank_lead::open(std::uint64_t session, const session_order& order) {
  const open_ranks orders{
      .session = session, .capacity_rows = order.capacity_rows, .plan = without_tokens(*order.plan)};
  if (auto given = give(order_kind::open, to_bytes(orders)); !given)
    return tl::make_unexpected(given.error());
  auto opened = open_together(rank_, orders);
  if (!opened) beat();  // all refused it, or there is no group any more
  return opened;
}

result<void> rank_lead::load(std::uint64_t session, engine::kv_cache& cache, const document_to_load& document,
                             std::span<const block::view> views) {
  if (views.empty() && document.scoring)
    return fail(errc::unsupported,
                "a document's blocks are lost and a group of nodes cannot score it anew; ingest it again");
  load_ranks order{.session = session,
                   .start_position = document.start_position,
                   .segment = document.segment,
                   .bands = document.bands,
                   .blocks = {},
                   .tokens = {}};
  std::ranges::transform(views, std::back_inserter(order.blocks), expected);
  if (views.empty()) order.tokens = *document.tokens;
  if (auto given = give(order_kind::load, to_bytes(order)); !given) return given;
  auto loaded = load_together(rank_, cache, order, bytes_of(document));
  if (!loaded) beat();
  return loaded;
}

result<void> rank_lead::generate(const generate_order& order) {
  return give(order_kind::generate, to_bytes(generate_ranks{.session = order.session,
                                                            .plan = without_tokens(*order.plan),
                                                            .temperature = order.how.temperature,
                                                            .top_p = order.how.top_p,
                                                            .seed = order.how.seed,
                                                            .max_tokens = order.max_tokens}));
}

result<std::vector<float>> rank_lead::queries(const query_order& order) {
  const query_ranks orders{.tokens = *order.tokens, .layer = order.layer, .rows = order.rows};
  if (auto given = give(order_kind::queries, to_bytes(orders)); !given)
    return tl::make_unexpected(given.error());
  auto found = queries_together(rank_, orders);
  if (!found) beat();
  return found;
}

void rank_lead::close(std::uint64_t session) {
  (void)give(order_kind::close, to_bytes(session));
}

}  // namespace weft::actors
