#include "forward_pass.hpp"

#include <weft/kernels/convert.hpp>
#include <weft/kernels/row_codec.hpp>

#include <algorithm>
#include <functional>
#include <numeric>

namespace weft::engine {

namespace {

// One row's value as attention reads it.
void read_value(const kv_cache& cache, std::uint32_t layer, std::uint32_t head, std::size_t row, float* out) {
  const kv_shape& shape = cache.shape();
  const std::byte* const codes = cache.v(layer, head) + row * shape.row_bytes();
  if (shape.coding == kernels::row_codec::raw)
    return kernels::to_f32(shape.dtype, codes, out, shape.head_dim);
  kernels::decode_rows(shape.coding, codes, cache.v_scales(layer, head) + row * shape.row_scales(), 1,
                       shape.head_dim, kernels::dtype::f32, reinterpret_cast<std::byte*>(out));
}

active_rows all_of(const row_chunk& chunk, bool decode_step) {
  return {static_cast<std::uint32_t>(chunk.tokens.size()),
          chunk.positions,
          chunk.segments,
          chunk.groups,
          decode_step,
          chunk.first_row};
}

}  // namespace

forward_pass::forward_pass(const model_config& config, const kv_shape& shape,
                           std::unique_ptr<pass_operations> operations, collective::communicator* group)
    : config_(config), shape_(shape), on_(std::move(operations)), group_(group) {}

result<void> forward_pass::prepare(std::span<const row_group> groups, std::uint32_t rows) {
  return on_->prepare(groups, rows);
}

result<void> forward_pass::run(const row_chunk& chunk, std::span<float> logits, forward_observer* observer) {
  result<void> done;
  const auto stepped = on_->step(chunk, logits, observer != nullptr);
  if (!stepped) done = tl::unexpected(stepped.error());
  if (stepped && !*stepped) {
    done = on_->begin(chunk);
    if (done) done = on_->embed(chunk.tokens);
    if (done) done = run_layers(chunk, 0, logits, observer);
    if (done) done = on_->finish();
  }
  if (!done) on_->abandon(chunk.groups);
  return done;
}

result<void> forward_pass::run_until(const row_chunk& chunk, std::uint32_t layer, float* stream,
                                     std::span<float> changes) {
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  const active_rows active = all_of(chunk, false);
  auto done = on_->begin(chunk);
  const auto then = [&done](auto&& step) {
    if (done) done = step();
  };
  then([&] { return on_->embed(chunk.tokens); });
  for (std::uint32_t earlier = 0; earlier < layer && done; ++earlier) {
    on_->project(earlier, rows);
    on_->round_keys_and_values(rows);
    then([&] { return on_->write_cache(earlier, chunk, false); });
    then([&] { return on_->attend(earlier, active, nullptr); });
    then([&] { return on_->add_attention(earlier, rows); });
    then([&] { return on_->add_mlp(earlier, rows); });
  }
  then([&] { return on_->read_stream(rows, stream); });
  then([&] { return show_changes(layer, chunk, changes); });
  then([&] { return on_->write_cache(layer, chunk, false); });
  then([&] { return on_->finish(); });
  if (!done) on_->abandon(chunk.groups);
  // Ranks that keep the same head all count it, and all heads are kept by as many.
  then([&] { return group_.sum(changes); });
  return done;
}

result<void> forward_pass::show_changes(std::uint32_t layer, const row_chunk& chunk,
                                        std::span<float> changes) {
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  on_->project(layer, rows);
  on_->round_keys_and_values(rows);
  const auto keys = on_->show_keys(rows);
  if (!keys) return tl::unexpected(keys.error());
  measure_changes(layer, chunk, keys->v, changes);
  return {};
}

result<void> forward_pass::run_from(const row_chunk& chunk, std::uint32_t layer, const float* stream,
                                    std::span<const std::uint32_t> stream_rows, std::span<float> logits) {
  auto done = on_->begin(chunk);
  if (done) done = on_->set_stream(stream, stream_rows);
  if (done) done = run_layers(chunk, layer, logits, nullptr);
  if (done) done = on_->finish();
  if (!done) on_->abandon(chunk.groups);
  return done;
}

result<void> forward_pass::run_layers(const row_chunk& chunk, std::uint32_t first_layer,
                                      std::span<float> logits, forward_observer* observer) {
  const bool counts = observer != nullptr && observer->counts_columns();
  active_rows active = all_of(chunk, chunk.decode_step && !counts);
  for (std::uint32_t layer = first_layer; layer < config_.layers; ++layer) {
    if (auto done = write_rows(layer, chunk, observer); !done) return done;
    if (layer + 1 == config_.layers) {
      if (counts)
        if (auto counted = on_->count_columns(layer, chunk, *observer); !counted) return counted;
      active = wanted_rows(chunk);
      if (active.rows == 0) return {};
      if (auto kept = on_->keep(chunk.wanted); !kept) return kept;
    }
    if (auto attended = on_->attend(layer, active, observer); !attended) return attended;
    if (auto added = on_->add_attention(layer, active.rows); !added) return added;
    if (observer != nullptr && active.decode_step && layer + 1 < config_.layers)
      if (auto seen = look_ahead(layer + 1, chunk, *observer); !seen) return seen;
    if (auto added = on_->add_mlp(layer, active.rows); !added) return added;
  }
  return on_->write_logits(active.rows, logits);
}

// The layer's queries, keys and values of all rows.
result<void> forward_pass::write_rows(std::uint32_t layer, const row_chunk& chunk,
                                      forward_observer* observer) {
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  const shown_parts shown = observer != nullptr ? observer->sees(layer) : shown_parts{};
  on_->project(layer, rows);
  if (shown.input) {
    const auto input = on_->show_input(layer, rows);
    if (!input) return tl::unexpected(input.error());
    observer->layer_input(layer, chunk.first_row, rows, *input);
  }
  if (shown.input_there) on_->show_input_there(layer, chunk, *observer);
  on_->round_keys_and_values(rows);
  if (shown.kv) {
    const auto keys = on_->show_keys(rows);
    if (!keys) return tl::unexpected(keys.error());
    observer->layer_kv(layer, chunk.first_row, rows, keys->k, keys->v);
    on_->show_keys_there(layer, chunk, *observer);
  }
  if (observer != nullptr) observer->before_rows(layer, chunk.first_row);
  if (auto written = on_->write_cache(layer, chunk, shown.queries); !written) return written;
  if (!shown.queries) return {};
  const auto queries = on_->show_queries(rows);
  if (!queries) return tl::unexpected(queries.error());
  observer->layer_queries(layer, chunk.first_row, rows, queries->q, queries->row_stride);
  return {};
}

void forward_pass::measure_changes(std::uint32_t layer, const row_chunk& chunk, const std::byte* values,
                                   std::span<float> changes) {
  const std::size_t head_bytes = shape_.head_dim * kernels::size_bytes(shape_.dtype);
  std::vector<float> fresh(shape_.head_dim), cached(shape_.head_dim);
  std::ranges::fill(changes, 0.0F);
  for (const row_group& group : chunk.groups) {
    const kv_cache& cache = *group.cache;
    for (std::uint32_t head = 0; head < shape_.kv_heads; ++head) {
      const std::int32_t* const first = cache.positions(layer, head);
      const std::int32_t* const last = first + cache.rows(layer, head);
      const std::int32_t* at = first;
      for (std::uint32_t i = 0; i < group.rows; ++i) {
        const std::size_t row = group.first_row + i;
        at = std::lower_bound(at, last, chunk.positions[row]);
        if (at == last) break;
        if (*at != chunk.positions[row]) continue;
        kernels::to_f32(shape_.dtype, values + (row * shape_.kv_heads + head) * head_bytes, fresh.data(),
                        shape_.head_dim);
        read_value(cache, layer, head, static_cast<std::size_t>(at - first), cached.data());
        changes[row] += std::transform_reduce(fresh.begin(), fresh.end(), cached.begin(), 0.0F, std::plus<>(),
                                              [](float a, float b) { return (a - b) * (a - b); });
      }
    }
  }
}

// Nobody reads what the last layer makes of the other rows.
active_rows forward_pass::wanted_rows(const row_chunk& chunk) {
  wanted_positions_.clear();
  wanted_segments_.clear();
  wanted_groups_.clear();
  for (const std::uint32_t row : chunk.wanted) {
    const auto kept = static_cast<std::uint32_t>(wanted_positions_.size());
    const auto group =
        std::ranges::find_if(chunk.groups, [row](const row_group& g) { return row - g.first_row < g.rows; });
    if (wanted_groups_.empty() || wanted_groups_.back().cache != group->cache)
      wanted_groups_.push_back({group->cache, kept, 0});
    ++wanted_groups_.back().rows;
    wanted_positions_.push_back(chunk.positions[row]);
    wanted_segments_.push_back(chunk.segments[row]);
  }
  return {static_cast<std::uint32_t>(chunk.wanted.size()), wanted_positions_, wanted_segments_,
          wanted_groups_, chunk.decode_step};
}

result<void> forward_pass::look_ahead(std::uint32_t layer, const row_chunk& chunk,
                                      forward_observer& observer) {
  if (!observer.wants_queries_ahead()) return {};
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  const auto ahead = on_->show_queries_ahead(layer, rows, observer.estimates_suffice());
  if (!ahead) return tl::unexpected(ahead.error());
  observer.queries_ahead(layer, chunk.first_row, rows, ahead->q, ahead->row_stride);
  return {};
}

}  // namespace weft::engine
