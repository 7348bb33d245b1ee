// The part of operations.hpp that is about decode steps which nobody observes: first everything that the
// kernels read is brought to the device, for all layers, then the kernels run one after the other, as a
// recording where they ran like this before.
#include "../kv_cache_slots.hpp"
#include "cache_mirror.hpp"
#include "device_kernels.hpp"
#include "operations.hpp"

#include <utility>

namespace weft::engine {

bool device_operations::takes_step(const row_chunk& chunk) const {
  return recorded_.wanted() && chunk.decode_step && attention_there_.takes_decode() &&
         has_raw_caches(chunk.groups);
}

result<bool> device_operations::step(const row_chunk& chunk, std::span<float> logits, bool observed) {
  if (chunk.wanted.size() != chunk.tokens.size() || !(group_.alone() || group_.sums_on_devices()))
    return false;
  // Up to here all ranks of a group say the same.
  if (observed || !takes_step(chunk)) {
    const auto told = recorded_.stand_aside();
    return told ? result<bool>(false) : tl::unexpected(told.error());
  }
  const auto rows = static_cast<std::uint32_t>(chunk.tokens.size());
  if (auto begun = begin(chunk); !begun) return tl::unexpected(begun.error());
  const auto keys = step_keys_.reserve(*on_->memory, 2 * keys_bytes_ * config_.layers, "new keys and values");
  if (!keys) return tl::unexpected(keys.error());
  const auto out = reserve_logits(rows);
  if (!out) return tl::unexpected(out.error());
  if (auto embedded = embed(chunk.tokens); !embedded) return tl::unexpected(embedded.error());

  // The layers' keys and values lie behind one another until the last of them is done.
  std::byte* const keys_of_passes = std::exchange(keys_, *keys);
  auto done = list_step(chunk);
  if (done)
    done = recorded_.run(step_arguments_of(rows, *out), [&]() -> result<void> {
      auto given = run_layers(rows);
      if (given) compute_logits(rows, *out);
      return given;
    });
  keys_ = keys_of_passes;
  if (!done) return tl::unexpected(done.error());
  stream_->download(home_.data(), *keys, 2 * keys_bytes_ * config_.layers);
  if (auto brought = bring_logits(*out, rows, logits); !brought) return tl::unexpected(brought.error());
  if (auto finished = finish(); !finished) return tl::unexpected(finished.error());
  return true;
}

// Everything that the layers' kernels read, but for what they make themselves.
result<void> device_operations::list_step(const row_chunk& chunk) {
  const active_rows active{static_cast<std::uint32_t>(chunk.tokens.size()),
                           chunk.positions,
                           chunk.segments,
                           chunk.groups,
                           true,
                           chunk.first_row};
  const device_rows rows{qkv_, qkv_width_, attention_};
  std::byte* const first_keys = keys_;
  steps_.clear();
  result<void> done;
  for (std::uint32_t layer = 0; layer < config_.layers && done; ++layer) {
    keys_ = first_keys + 2 * keys_bytes_ * layer;
    const away& fresh = open_rows(layer, chunk);
    ++away_count_;
    update_opened(layer, chunk.groups);
    update_mirrors(layer, chunk.groups);
    layer_step& step = steps_.emplace_back();
    step.keys = keys_;
    step.writes = list_writes(layer, fresh.runs);
    auto attention = attention_there_.list_decode(layer, active, rows, nullptr, plan_sizes::in_steps);
    if (!attention) done = tl::unexpected(attention.error());
    if (attention) step.attention = *attention;
  }
  keys_ = first_keys;
  return done ? lists_.flush() : done;
}

result<void> device_operations::run_layers(std::uint32_t rows) {
  for (std::uint32_t layer = 0; layer < config_.layers; ++layer) {
    const layer_step& step = steps_[layer];
    keys_ = step.keys;
    project(layer, rows);
    round_keys_and_values(rows);
    rotate_queries(qkv_, rows);
    write_there(step.writes);
    attention_there_.run_decode(step.attention);
    if (auto added = add_attention(layer, rows); !added) return added;
    if (auto added = add_mlp(layer, rows); !added) return added;
  }
  return {};
}

step_arguments device_operations::step_arguments_of(std::uint32_t rows, const std::byte* logits) const {
  step_arguments all;
  const auto add = [&all](const auto*... pointers) {
    (all.push_back(reinterpret_cast<std::uintptr_t>(pointers)), ...);
  };
  all.push_back(rows);
  add(x_, qkv_, attention_, mlp_, input_, rotations_there_, logits);
  for (const layer_step& step : steps_) {
    const auto& attention = step.attention;
    add(step.keys, step.writes.scatters, step.writes.labels, attention.pieces, attention.first_piece,
        attention.heads, attention.scratch);
    all.insert(all.end(), {step.writes.count, attention.piece_count, attention.head_count});
  }
  return all;
}

}  // namespace weft::engine
