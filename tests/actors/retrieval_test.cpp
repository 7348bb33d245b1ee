// Scores of blocks that several retrieval actors rank are those of one place.
#include <weft/actors/document_keys.hpp>
#include <weft/actors/retrieval.hpp>
#include <weft/actors/sparse_parts.hpp>
#include <weft/actors/system_config.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/policies/keys.hpp>
#include <weft/policies/retrieval/block_ranker.hpp>

#include <caf/actor_system.hpp>
#include <caf/actor_system_config.hpp>
#include <caf/scoped_actor.hpp>
#include <caf/send.hpp>
#include <caf/typed_event_based_actor.hpp>
#include <doctest/doctest.h>

#include <cstring>
#include <future>
#include <map>
#include <random>

using namespace weft;
using namespace weft::actors;
namespace retrieval = weft::policies::retrieval;

namespace {

constexpr engine::kv_shape shape{.layers = 2, .kv_heads = 2, .head_dim = 16, .dtype = kernels::dtype::bf16};
constexpr std::uint32_t query_heads = 4;
constexpr std::uint32_t block_tokens = 16;
constexpr std::uint32_t tokens = 20 * block_tokens + 5;
constexpr std::int32_t start_position = 7;
constexpr id128 document{1, 2};
constexpr id128 fingerprint{3, 4};
constexpr auto patience = std::chrono::seconds{30};

using stored_blocks = std::map<id128, std::vector<std::byte>>;

struct test_config : caf::actor_system_config {
  test_config() { register_types(*this); }
};

std::vector<float> noise(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values)
    value = normal(random);
  return values;
}

engine::encoded_document some_document() {
  engine::encoded_document made(shape, tokens);
  const auto values = noise(std::size_t{shape.layers} * shape.kv_heads * tokens * shape.head_dim, 1);
  kernels::from_f32(shape.dtype, values.data(), made.k(), values.size());
  kernels::from_f32(shape.dtype, values.data(), made.v(), values.size());
  return made;
}

id128 key_of(std::uint32_t block) {
  return {100, block + 1};
}

// Everything of the document in an arena of its own, as a pool that holds all of it gives it.
struct stored_document {
  kernels::aligned_buffer memory{std::size_t{16} << 20};
  std::shared_ptr<staging> room =
      std::make_shared<staging>(std::span(memory.data(), memory.size_bytes()), memory.size_bytes());
  engine::encoded_document rows = some_document();
  sparse_index index = describe_sparse(rows, block_tokens);
  stored_blocks blocks;

  explicit stored_document(bool with_reduced, kernels::row_codec coding = kernels::row_codec::raw) {
    for (std::uint32_t i = 0; i < index.blocks; ++i) {
      const auto of_block = rows.block_shape(i, block_tokens);
      std::array bands{block::all_rows(of_block)};
      bands[0].coding = coding;
      auto place = room->take(block::size_bytes(of_block, bands));
      REQUIRE(place);
      REQUIRE(block::write(place->bytes(), {key_of(i), fingerprint, 0, 0}, of_block, bands,
                           rows.block_source(i, block_tokens)));
      REQUIRE(add_block(index, place->bytes()));
      blocks[key_of(i)].assign(place->bytes().begin(), place->bytes().end());
      if (with_reduced)
        put(policies::reduced_keys_key(key_of(i)), reduced_keys(index, rows, i), reduced_keys_tag);
    }
    put(policies::sparse_index_key(key_of(0)), to_bytes(index), sparse_index_tag);
    put(policies::document_keys_key(document), document_keys_bytes(rows), document_keys_tag);
  }

  void put(const id128& key, std::span<const std::byte> payload, std::uint64_t tag) {
    auto place = room->take(block::opaque_size_bytes(payload.size()));
    REQUIRE(place);
    REQUIRE(block::write_opaque(place->bytes(), {key, fingerprint, 0, 0}, payload, tag));
    blocks[key].assign(place->bytes().begin(), place->bytes().end());
  }
};

pool_actor::behavior_type pool_of(std::shared_ptr<staging> room, stored_blocks blocks) {
  return {
      [room, blocks](read_atom, const read_order& order) -> caf::result<read_outcome> {
        auto results = std::make_shared<read_results>();
        for (const auto& key : order.keys) {
          const auto found = blocks.find(key);
          if (found == blocks.end()) {
            results->blocks.push_back({fail(errc::not_found, "not there"), nullptr});
            continue;
          }
          auto place = room->take(found->second.size());
          std::memcpy(place->bytes().data(), found->second.data(), found->second.size());
          results->blocks.push_back({{}, std::make_shared<const block_bytes>(std::move(*place))});
        }
        return read_outcome{results};
      },
      [](write_atom, const write_order&) -> caf::result<write_outcome> { return write_outcome{}; },
      [](locate_atom, const key_list&) -> caf::result<locate_reply> { return locate_reply{}; },
      [](drop_atom, const key_list&) -> caf::result<std::uint64_t> { return 0; },
      [](pin_atom, bool, const key_list&) -> caf::result<std::uint64_t> { return 0; },
      [](pin_atom, const key_list&) -> caf::result<key_list> { return key_list{}; },
      [blocks](size_atom, const key_list& keys) -> caf::result<held_sizes> {
        held_sizes held;
        for (const auto& key : keys.keys)
          held.bytes.push_back(blocks.contains(key) ? blocks.at(key).size() : 0);
        return held;
      },
      [](list_atom) -> caf::result<key_list> { return key_list{}; },
      [](status_atom) -> caf::result<pool_report> { return pool_report{}; },
      [](cluster_atom, const cluster_ptr&) {},
      [](tick_atom) {},
  };
}

template <class T>
std::string as_bytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <class T>
std::vector<T> from_bytes_of(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(static_cast<void*>(values.data()), bytes.data(), bytes.size());
  return values;
}

retrieval::options how_of(retrieval::policy policy) {
  return {.chosen = policy,
          .block_tokens = block_tokens,
          .dim_ratio = reduced_dim_ratio,
          .token_merge = reduced_token_merge};
}

std::vector<float> frequencies() {
  return {1.0F, 0.5F, 0.2F, 0.1F, 0.05F, 0.01F, 0.005F, 0.001F};
}

constexpr std::uint32_t steps = 3;

std::vector<float> queries() {
  return noise(std::size_t{shape.layers} * steps * query_heads * shape.head_dim, 9);
}

result<retrieval_scores> ranked_by(const node_calls::ranking& ranking, const retrieval_queries& asked) {
  std::promise<result<retrieval_scores>> answer;
  ranking(asked, [&](result<retrieval_scores> scores) { answer.set_value(std::move(scores)); });
  return answer.get_future().get();
}

// The scores of every layer, [layer][middle block], ranked by so many actors.
std::vector<std::vector<float>> scores_of(caf::actor_system& system, const stored_document& stored,
                                          retrieval::policy policy, std::uint32_t nodes) {
  const std::vector<retrieval::context_document> documents{{start_position, tokens}};
  const auto plan = retrieval::plan_blocks(documents, how_of(policy));
  caf::scoped_actor self{system};
  const auto pool = system.spawn([&](pool_actor::pointer) { return pool_of(stored.room, stored.blocks); });
  std::vector<local_retrieval_actor> actors;
  std::vector<std::vector<retrieval::shard_scores>> shards(shape.layers);
  for (std::uint32_t node = 0; node < nodes; ++node) {
    actors.push_back(spawn_retrieval(system, {.pool = pool, .room = stored.room, .read_timeout = patience}));
    retrieval_session session{.reader = {{5, 6}, 1},
                              .number = 8,
                              .fingerprint = fingerprint,
                              .policy = static_cast<std::uint8_t>(policy),
                              .scale = 0,
                              .layers = shape.layers,
                              .query_heads = query_heads,
                              .kv_heads = shape.kv_heads,
                              .head_dim = shape.head_dim,
                              .dtype = static_cast<std::uint8_t>(shape.dtype),
                              .block_tokens = block_tokens,
                              .frequencies = as_bytes(frequencies()),
                              .documents = {{key_of(0), start_position, tokens}},
                              .blocks = {}};
    for (std::uint32_t i = 0; i < plan.middle; ++i) {
      const auto& block = plan.middle_blocks()[i];
      if (i % nodes == node)
        session.blocks.push_back({key_of(block.first_token / block_tokens), i, 0, block.first_token});
    }
    retrieval_held held;
    self->request(actors.back(), patience, open_atom_v, session)
        .receive([&](const retrieval_held& h) { held = h; },
                 [&](const caf::error& e) { FAIL(system.render(e)); });
    CHECK(held.blocks.size() == session.blocks.size());
    retrieval_queries asked{.reader = session.reader,
                            .number = session.number,
                            .steps = steps,
                            .layers = {0, 1},
                            .queries = as_bytes(queries())};
    const auto scores = ranked_by(ranking_of(actors.back()), asked).value();
    for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
      shards[layer].push_back({held.blocks, from_bytes_of<float>(scores.sums[layer]),
                               from_bytes_of<kernels::softmax_total>(scores.totals[layer])});
    asked.number = 77;
    CHECK(ranked_by(ranking_of(actors.back()), asked).error().code == errc::not_found);
  }
  for (const auto& actor : actors)
    caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(pool, caf::exit_reason::user_shutdown);
  std::vector<std::vector<float>> all;
  for (const auto& of_layer : shards) {
    all.emplace_back(plan.middle);
    retrieval::merge_shards(of_layer, all.back());
  }
  return all;
}

// By a ranker of this process that knows the document's keys.
std::vector<std::vector<float>> local_scores(const stored_document& stored, retrieval::policy policy) {
  const std::vector<retrieval::context_document> documents{{start_position, tokens}};
  const auto how = how_of(policy);
  const auto plan = retrieval::plan_blocks(documents, how);
  auto ranker = retrieval::make_ranker(
      how, retrieval::whole_context({shape.layers, query_heads, shape.kv_heads, shape.head_dim, shape.dtype},
                                    documents, plan, frequencies()));
  std::vector<float> keys(std::size_t{tokens} * shape.head_dim);
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      kernels::to_f32(shape.dtype,
                      stored.rows.k() + layer * stored.rows.layer_bytes() + head * stored.rows.head_bytes(),
                      keys.data(), keys.size());
      ranker->add_keys(layer, head, 0, keys);
    }
  kernels::thread_pool threads{1};
  std::vector<std::vector<float>> all;
  const auto asked = queries();
  const std::size_t width = std::size_t{query_heads} * shape.head_dim;
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer) {
    retrieval::shard_scores shard;
    ranker->score(layer, {asked.data() + layer * steps * width, steps, width}, shard, threads);
    all.emplace_back(plan.middle);
    retrieval::merge_shards({&shard, 1}, all.back());
  }
  return all;
}

void check_close(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b,
                 double epsilon) {
  REQUIRE(a.size() == b.size());
  for (std::size_t layer = 0; layer < a.size(); ++layer)
    for (std::size_t i = 0; i < a[layer].size(); ++i)
      CHECK(a[layer][i] == doctest::Approx(b[layer][i]).epsilon(epsilon));
}

}  // namespace

TEST_CASE("one, two and three retrieval nodes give the same scores, for every policy") {
  test_config config;
  caf::actor_system system{config};
  const stored_document stored(true);
  for (const auto policy : {retrieval::policy::kvstar, retrieval::policy::kvstar_ahead,
                            retrieval::policy::quest, retrieval::policy::esa}) {
    CAPTURE(std::string{retrieval::name_of(policy)});
    const auto one = scores_of(system, stored, policy, 1);
    check_close(scores_of(system, stored, policy, 2), one, 1e-5);
    check_close(scores_of(system, stored, policy, 3), one, 1e-5);
    // Reduced keys are rounded once more on their way through the pool.
    check_close(one, local_scores(stored, policy), retrieval::ranks_by_reduced_keys(policy) ? 0.05 : 1e-5);
  }
}

TEST_CASE("reduced keys that are gone are made again from the blocks") {
  test_config config;
  caf::actor_system system{config};
  const stored_document with(true), without(false);
  check_close(scores_of(system, without, retrieval::policy::kvstar, 2),
              scores_of(system, with, retrieval::policy::kvstar, 2), 1e-6);
}

namespace {

// What a codec leaves of its keys.
void round_keys(engine::encoded_document& rows, kernels::row_codec coding) {
  const std::size_t count = rows.layer_bytes() * shape.layers / rows.row_bytes();
  std::vector<std::byte> codes(count * kernels::code_bytes(coding, shape.dtype, shape.head_dim));
  std::vector<std::uint16_t> scales(count * kernels::scales_per_row(coding, shape.head_dim));
  kernels::encode_rows(coding, shape.dtype, rows.k(), shape.head_dim, count, shape.head_dim, codes.data(),
                       scales.data());
  kernels::decode_rows(coding, codes.data(), scales.data(), count, shape.head_dim, shape.dtype, rows.k());
}

}  // namespace

TEST_CASE("blocks in a codec are ranked by whole reduced keys, or by what the codec left of their keys") {
  test_config config;
  caf::actor_system system{config};
  const stored_document raw(true);
  for (const auto coding : {kernels::row_codec::int8, kernels::row_codec::int4}) {
    CAPTURE(std::string{kernels::name_of(coding)});
    const stored_document coded(true, coding), without(false, coding);
    CHECK(scores_of(system, coded, retrieval::policy::kvstar_ahead, 2) ==
          scores_of(system, raw, retrieval::policy::kvstar_ahead, 2));
    stored_document rounded(false);
    round_keys(rounded.rows, coding);
    for (const auto policy : {retrieval::policy::quest, retrieval::policy::esa})
      check_close(scores_of(system, coded, policy, 3), local_scores(rounded, policy), 1e-5);
    // Made again, from the blocks.
    check_close(scores_of(system, without, retrieval::policy::kvstar_ahead, 2),
                scores_of(system, coded, retrieval::policy::kvstar_ahead, 2),
                coding == kernels::row_codec::int8 ? 0.05 : 0.5);
  }
}

TEST_CASE("an index survives the way through bytes, and lies are refused") {
  const stored_document stored(false);
  const auto bytes = to_bytes(stored.index);
  CHECK(sparse_index_from_bytes(bytes).value() == stored.index);
  for (std::size_t cut = 0; cut < bytes.size(); cut += 7)
    CHECK(!sparse_index_from_bytes(std::span(bytes).first(cut)));
  // Version, layers, heads, blocks, bands, channels and element type: each contradicts the length or a limit.
  for (const std::size_t number : {0U, 1U, 2U, 5U, 6U, 7U, 9U})
    for (std::size_t at = 4 * number; at < 4 * number + 4; ++at) {
      auto wrong = bytes;
      wrong[at] = static_cast<std::byte>(0xff);
      CHECK(!sparse_index_from_bytes(wrong));
    }
}

namespace {

document_queries question_about(std::vector<id128> documents) {
  return {.fingerprint = fingerprint,
          .layer = retrieval::ranking_layer({}, shape.layers),
          .query_heads = query_heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .queries = as_bytes(noise(std::size_t{steps} * query_heads * shape.head_dim, 7)),
          .documents = std::move(documents)};
}

}  // namespace

TEST_CASE("a retrieval node multiplies a question with the documents that the pool has, and says which") {
  test_config config;
  caf::actor_system system{config};
  const stored_document stored(false);
  caf::scoped_actor self{system};
  const auto pool = system.spawn([&](pool_actor::pointer) { return pool_of(stored.room, stored.blocks); });
  const auto actor = spawn_retrieval(system, {.pool = pool, .room = stored.room, .read_timeout = patience});
  const auto keys = document_keys_from_bytes(document_keys_bytes(stored.rows)).value();
  std::vector<float> expected(steps * query_heads);
  kernels::thread_pool threads{1};
  const auto asked = question_about({{77, 7}, document});
  keys.keys.best_products(from_bytes_of<float>(asked.queries), query_heads, expected, threads);
  for (int turn = 0; turn < 2; ++turn)  // out of the pool, then at hand
    self->request(actor, patience, rank_atom_v, asked)
        .receive(
            [&](const document_products& products) {
              CHECK(products.known == std::vector<std::uint8_t>{0, 1});
              CHECK(from_bytes_of<float>(products.best) == expected);
            },
            [&](const caf::error& e) { FAIL(system.render(e)); });
  self->request(actor, patience, status_atom_v)
      .receive([](const retrieval_report& report) { CHECK(report.documents == 1); },
               [&](const caf::error& e) { FAIL(system.render(e)); });
  auto other_layer = asked;
  other_layer.layer = 0;
  self->request(actor, patience, rank_atom_v, other_layer)
      .receive(
          [&](const document_products& p) {
            CHECK(p.known == std::vector<std::uint8_t>{0, 0});
          },
          [&](const caf::error& e) { FAIL(system.render(e)); });
  std::vector<document_queries> wrong(4, asked);
  wrong[0].queries.pop_back();
  wrong[1].kv_heads = 3;
  wrong[2].queries.clear();
  wrong[3].documents.resize(20000);
  for (const auto& refused : wrong)
    self->request(actor, patience, rank_atom_v, refused)
        .receive([&](const document_products&) { FAIL("ranked"); }, [](const caf::error&) {});
  caf::anon_send_exit(actor, caf::exit_reason::user_shutdown);
  caf::anon_send_exit(pool, caf::exit_reason::user_shutdown);
}

TEST_CASE("what a document is ranked by survives the way through bytes, is bounded, and lies are refused") {
  const auto rows = some_document();
  const auto bytes = document_keys_bytes(rows);
  const auto keys = document_keys_from_bytes(bytes);
  REQUIRE(keys);
  CHECK(keys->layer == 1);
  CHECK(keys->keys.shape().vectors == tokens);
  CHECK(keys->keys.shape().channels == shape.head_dim / 2);
  for (std::size_t cut = 0; cut < bytes.size(); cut += 41)
    CHECK(!document_keys_from_bytes(std::span(bytes).first(cut)));
  // Version, heads, head dimension, vectors, channels and element type.
  for (const std::size_t number : {0U, 2U, 3U, 4U, 5U, 7U})
    for (std::size_t at = 4 * number; at < 4 * number + 4; ++at) {
      auto wrong = bytes;
      wrong[at] = static_cast<std::byte>(0xff);
      CHECK(!document_keys_from_bytes(wrong));
    }
  const engine::kv_shape wide{.layers = 1, .kv_heads = 64, .head_dim = 128, .dtype = kernels::dtype::bf16};
  const engine::encoded_document large(wide, 1100);  // 9 MB of keys, half of it kept
  const auto merged = document_keys_bytes(large);
  CHECK(merged.size() <= most_document_keys_bytes + 65536);
  CHECK(document_keys_from_bytes(merged).value().keys.shape().vectors == 367);
}
