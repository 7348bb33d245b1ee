// One pass of a chunk of rows through all layers.
#pragma once

#include "group_sums.hpp"
#include "pass_operations.hpp"

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

// Memory is kept from pass to pass: decode steps allocate nothing.
class forward_pass {
 public:
  forward_pass(const model_config& config, const kv_shape& shape, std::unique_ptr<pass_operations> operations,
               collective::communicator* group);

  block_stage* stage() { return on_->stage(); }

  // Room for chunks of up to `rows` rows of these caches. Where it fails nothing has changed.
  result<void> prepare(std::span<const row_group> groups, std::uint32_t rows);

  // Adds the rows to their caches, which have room, and writes the logits of the wanted ones. What fails is
  // the group or the device, if there is one.
  result<void> run(const row_chunk& chunk, std::span<float> logits, forward_observer* observer);

  // The layers before `layer`, and that layer's keys and values. `stream` gets what goes into the layer,
  // [rows][hidden], `changes` by row how far the new values are from those that the cache had: the sum of
  // squares.
  result<void> run_until(const row_chunk& chunk, std::uint32_t layer, float* stream,
                         std::span<float> changes);

  // From `layer` on, for rows numbered `stream_rows` of what `run_until` gave for all of them.
  result<void> run_from(const row_chunk& chunk, std::uint32_t layer, const float* stream,
                        std::span<const std::uint32_t> stream_rows, std::span<float> logits);

 private:
  result<void> run_layers(const row_chunk& chunk, std::uint32_t first_layer, std::span<float> logits,
                          forward_observer* observer);
  result<void> write_rows(std::uint32_t layer, const row_chunk& chunk, forward_observer* observer);
  result<void> show_changes(std::uint32_t layer, const row_chunk& chunk, std::span<float> changes);
  void measure_changes(std::uint32_t layer, const row_chunk& chunk, const std::byte* values,
                       std::span<float> changes);
  active_rows wanted_rows(const row_chunk& chunk);
  result<void> look_ahead(std::uint32_t layer, const row_chunk& chunk, forward_observer& observer);

  const model_config& config_;
  kv_shape shape_;
  std::unique_ptr<pass_operations> on_;
  group_sums group_;

  std::vector<std::int32_t> wanted_positions_, wanted_segments_;
  std::vector<row_group> wanted_groups_;
};

}  // namespace weft::engine
