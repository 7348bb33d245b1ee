// What the leading rank of a group tells the others to do, so that all do the same.
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/block_verifier.hpp>
#include <weft/collective/communicator.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/policies/stitch.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace weft::actors {

enum class order_kind : std::uint32_t { idle, open, load, generate, step, close, queries };

// A session with an empty cache, but for the rows that the plan reserves.
struct open_ranks {
  std::uint64_t session = 0;
  std::vector<std::uint32_t> capacity_rows;  // [layer][kv_head] of the whole model
  policies::stitch_plan plan;                // without tokens to encode
};

// A document into a session's cache: out of blocks, which are broadcast behind the order, or computed.
struct load_ranks {
  std::uint64_t session = 0;
  std::int32_t start_position = 0;
  std::int32_t segment = 0;
  std::uint32_t bands = 0;
  std::vector<block::expectation> blocks;
  std::vector<engine::token_id> tokens;  // to compute it from, where there are no blocks
};

struct generate_ranks {
  std::uint64_t session = 0;
  policies::stitch_plan plan;
  float temperature = 0;
  float top_p = 1;
  std::uint64_t seed = 0;
  std::uint32_t max_tokens = 0;
};

// What `engine::question_queries` is asked for.
struct query_ranks {
  std::vector<engine::token_id> tokens;
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;
};

struct rank_order {
  order_kind kind{};
  std::vector<std::byte> fields;
};

std::vector<std::byte> to_bytes(const open_ranks& order);
std::vector<std::byte> to_bytes(const load_ranks& order);
std::vector<std::byte> to_bytes(const generate_ranks& order);
std::vector<std::byte> to_bytes(const query_ranks& order);
std::vector<std::byte> to_bytes(std::uint64_t session);  // of `close`

// `corrupt` for what is no such order.
result<void> read(std::span<const std::byte> bytes, open_ranks& order);
result<void> read(std::span<const std::byte> bytes, load_ranks& order);
result<void> read(std::span<const std::byte> bytes, generate_ranks& order);
result<void> read(std::span<const std::byte> bytes, query_ranks& order);
result<void> read(std::span<const std::byte> bytes, std::uint64_t& session);

// Rank 0 gives an order, the others take it. Errors are the group's.
result<void> give_order(collective::communicator& group, order_kind kind, std::span<const std::byte> fields);
result<rank_order> take_order(collective::communicator& group);

}  // namespace weft::actors
