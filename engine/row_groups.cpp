#include "row_groups.hpp"

#include "kv_cache_slots.hpp"

#include <algorithm>
#include <string>

namespace weft::engine {

namespace {

result<void> check_lists(const row_batch& batch) {
  const std::size_t rows = batch.tokens.size();
  if (batch.positions.size() != rows || batch.segments.size() != rows || batch.caches.size() != rows)
    return fail(errc::invalid_argument,
                "a batch of " + std::to_string(rows) +
                    " tokens needs as many positions, segments and cache indices; use row_batch::add");
  for (std::size_t i = 0; i < batch.logits_rows.size(); ++i)
    if (batch.logits_rows[i] >= rows || (i > 0 && batch.logits_rows[i] <= batch.logits_rows[i - 1]))
      return fail(errc::invalid_argument,
                  "the rows whose logits are wanted must ascend and lie in the batch");
  return {};
}

result<void> check_row(const row_batch& batch, std::size_t row, std::size_t caches,
                       std::uint32_t vocab_size) {
  const token_id token = batch.tokens[row];
  if (token < 0 || static_cast<std::uint32_t>(token) >= vocab_size)
    return fail(errc::invalid_argument, "token id " + std::to_string(token) +
                                            " is outside the vocabulary of " + std::to_string(vocab_size) +
                                            "; was the text encoded for another model?");
  if (batch.positions[row] < 0)
    return fail(errc::invalid_argument, "position " + std::to_string(batch.positions[row]) + " is negative");
  if (batch.caches[row] >= caches)
    return fail(errc::invalid_argument,
                "a row names cache " + std::to_string(batch.caches[row]) + " of " + std::to_string(caches));
  return {};
}

bool same_shape(const kv_shape& a, const kv_shape& b) {
  return a.layers == b.layers && a.kv_heads == b.kv_heads && a.head_dim == b.head_dim && a.dtype == b.dtype;
}

std::span<const std::int32_t> positions_of(const row_batch& batch, const row_group& group) {
  return std::span(batch.positions).subspan(group.first_row, group.rows);
}

result<void> check_group(const row_batch& batch, const row_group& group, const kv_shape& shape) {
  if (!same_shape(group.cache->shape(), shape))
    return fail(errc::invalid_argument, "the KV cache was made for another model; use runner::cache_shape");
  const auto positions = positions_of(batch, group);
  if (!std::ranges::is_sorted(positions, std::less_equal<>()) && positions.size() > 1)
    return fail(errc::invalid_argument, "the rows of a cache must come by ascending position, each once");
  if (!has_room(*group.cache, positions))
    return fail(errc::out_of_space, "no room for " + std::to_string(group.rows) +
                                        " more rows in a KV cache of " +
                                        std::to_string(group.cache->capacity_rows()) +
                                        "; ask with fewer documents or a shorter question");
  return {};
}

bool is_decode_row(const row_batch& batch, const row_group& group) {
  const kv_cache& cache = *group.cache;
  if (group.rows != 1 || batch.segments[group.first_row] != 0) return false;
  const auto position = positions_of(batch, group);
  const kv_shape& shape = cache.shape();
  for (std::uint32_t layer = 0; layer < shape.layers; ++layer)
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
      const std::uint32_t rows = cache.rows(layer, head);
      if (rows > 0 && cache.positions(layer, head)[rows - 1] >= position.front()) return false;
    }
  return true;
}

}  // namespace

result<void> group_rows(const row_batch& batch, std::span<kv_cache* const> caches, const kv_shape& shape,
                        std::uint32_t vocab_size, grouped_batch& out) {
  out.groups.clear();
  out.decode_step = true;
  if (auto checked = check_lists(batch); !checked) return checked;
  for (std::size_t row = 0; row < batch.size(); ++row) {
    if (auto checked = check_row(batch, row, caches.size(), vocab_size); !checked) return checked;
    kv_cache* cache = caches[batch.caches[row]];
    if (!out.groups.empty() && out.groups.back().cache == cache)
      ++out.groups.back().rows;
    else
      out.groups.push_back({cache, static_cast<std::uint32_t>(row), 1});
  }
  for (std::size_t i = 0; i < out.groups.size(); ++i) {
    for (std::size_t earlier = 0; earlier < i; ++earlier)
      if (out.groups[earlier].cache == out.groups[i].cache)
        return fail(errc::invalid_argument, "the rows of a cache must be consecutive in a batch");
    if (auto checked = check_group(batch, out.groups[i], shape); !checked) return checked;
    out.decode_step = out.decode_step && is_decode_row(batch, out.groups[i]);
  }
  return {};
}

result<void> bring_caches_home(std::span<const row_group> groups) {
  for (const row_group& group : groups)
    if (auto home = bring_all_home(*group.cache); !home) return home;
  return {};
}

}  // namespace weft::engine
