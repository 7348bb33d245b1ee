// The forward pass: any list of rows, each with its position, segment and cache, over one model.
//
// A prefill is a batch of many rows of one cache, a decode step of several sessions one row of each, a
// stitched prompt the rows that are to be computed while the others are in the cache already. Row q attends
// to the cache rows k (its own included) with position(k) <= position(q) and (segment(k) == segment(q) or
// segment(q) == 0). The rows of one cache are consecutive in the batch and come by ascending position.
#pragma once

#include <weft/base/error.hpp>
#include <weft/collective/communicator.hpp>
#include <weft/engine/compute_device.hpp>
#include <weft/engine/kv_cache.hpp>
#include <weft/engine/model_config.hpp>
#include <weft/engine/model_shard.hpp>
#include <weft/engine/safetensors.hpp>
#include <weft/kernels/attention_counted.hpp>
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/attention_prefill.hpp>
#include <weft/kernels/dtype.hpp>
#include <weft/kernels/thread_pool.hpp>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

namespace weft::engine {

enum class arithmetic : std::uint8_t {
  automatic,
  f32
};  // automatic: bf16 products where weights and CPU have them

struct runner_options {
  unsigned threads = 0;                                      // 0: all cores
  std::optional<kernels::dtype> cache_dtype = std::nullopt;  // none: the weights' dtype
  arithmetic products = arithmetic::automatic;
  std::uint32_t chunk_rows = 512;  // rows per pass of a long batch, bounds the activations' memory

  // The ranks that run the model together, this one among them; lives longer than the runner. All of them
  // make the same calls in the same order, and get the same logits bit for bit. None: the whole model here.
  collective::communicator* group = nullptr;

  // Where the model runs, if not on the CPU. The caches that it is given stay the host's: whatever reads or
  // writes them goes on as it does.
  std::shared_ptr<const compute_device> device = nullptr;
};

struct row_batch {
  std::vector<token_id> tokens;
  std::vector<std::int32_t> positions;
  std::vector<std::int32_t> segments;
  std::vector<std::uint32_t> caches;       // index into the caches of the call, by row
  std::vector<std::uint32_t> logits_rows;  // rows whose logits are wanted, ascending

  void add(token_id token, std::int32_t position, std::int32_t segment, std::uint32_t cache = 0);
  void clear();  // keeps the memory
  std::size_t size() const { return tokens.size(); }
};

// Rows of a batch that may end halfway. Layers before `layer` and that layer's K and V are computed for all
// rows; behind that, candidates go on only if they are among the `rows` of them whose values changed most: by
// |V new - V in the cache before|^2 over the layer's heads, descending, then by position. A head that had no
// row at a position does not count.
struct row_selection {
  std::uint32_t layer = 0;
  std::uint32_t rows = 0;
  std::vector<std::uint32_t> candidates;  // rows of the batch, ascending
};

// What an observer reads of a layer.
struct shown_parts {
  bool input = false;
  bool kv = false;
  bool queries = false;
  bool input_there = false;  // of a model on a device
};

// Sees what a forward pass computes, layer by layer, on the calling thread: rows `first_row`... of the batch.
// What it is shown is valid during the call.
class forward_observer {
 public:
  virtual ~forward_observer() = default;
  // Which of `layer_input`, `layer_kv` and `layer_queries` are to be called. For each of them a pass on a
  // device waits, and downloads what it shows; for `layer_input_there` it does neither.
  virtual shown_parts sees(std::uint32_t /*layer*/) const { return {true, true, true}; }

  // Before the layer's rows come into their caches; a device computes them meanwhile. Whatever this call does
  // to the caches, the layer's attention will see.
  virtual void before_rows(std::uint32_t /*layer*/, std::uint32_t /*first_row*/) {}
  // What the layer's attention block projects, the hidden states after RMSNorm: [row][hidden_size].
  virtual void layer_input(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                           const float* /*normed*/) {}
  // The same on a device that computed them, in its memory, for what is put behind the stream during the
  // call; it is all done when the pass is through.
  virtual void layer_input_there(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                                 const float* /*normed*/, device::stream& /*behind*/) {}
  // K before RoPE (after the key norm, where the model has one) and V, rounded to the cache dtype:
  // [row][kv_head][head_dim].
  virtual void layer_kv(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                        const std::byte* /*k*/, const std::byte* /*v*/) {}
  // The same on a device that computed them, in its memory, for what is put behind the stream during the
  // call.
  virtual void layer_kv_there(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                              const std::byte* /*k*/, const std::byte* /*v*/, device::stream& /*behind*/) {}
  // Queries after RoPE, [row][query_head][head_dim], rows `row_stride` floats apart. The rows' keys and
  // values are in their caches by now; whatever this call does to the caches, the layer's attention will see.
  virtual void layer_queries(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                             const float* /*q*/, std::size_t /*row_stride*/) {}

  // Whether `columns_to_count` is to be asked. Rows that are counted do not run as a decode step.
  virtual bool counts_columns() const { return false; }
  // Of which of a cache's rows the layer's attention is to be counted, for these rows of the batch: asked for
  // right before the layer attends, and behind the last layer's queries; what was counted is there when the
  // pass is through. Null: none.
  virtual const kernels::column_count* columns_to_count(std::uint32_t /*layer*/, std::uint32_t /*first_row*/,
                                                        std::uint32_t /*rows*/) {
    return nullptr;
  }

  // In decode steps, whether `queries_ahead` is to be called. It costs one projection more per layer.
  virtual bool wants_queries_ahead() const { return false; }
  // Whether they may be estimated from weights in fewer bits, where that is faster: their last digits then
  // depend on the CPU and on how many rows step together.
  virtual bool estimates_suffice() const { return false; }
  // Before the MLP of layer - 1: what the layer's queries after RoPE would be if that MLP added nothing to
  // the hidden state. Shape as `layer_queries`; `layer` is at least 1.
  virtual void queries_ahead(std::uint32_t /*layer*/, std::uint32_t /*first_row*/, std::uint32_t /*rows*/,
                             const float* /*q*/, std::size_t /*row_stride*/) {}
  // In decode steps: rows that a cache's query sees besides those of the cache. Asked for right before the
  // layer attends.
  virtual std::span<const kernels::kv_run> more_rows(std::uint32_t /*layer*/, const kv_cache& /*cache*/,
                                                     std::uint32_t /*kv_head*/) {
    return {};
  }
  // In other passes: rows that lie elsewhere and that every query of a cache sees by its mask besides those
  // of the cache, [kv_head], one part after the other. Asked for while the layer attends, until nothing
  // comes; a part stays as it is until the next one is asked for.
  virtual std::span<const kernels::prefill_kv_head> next_part(std::uint32_t /*layer*/,
                                                              const kv_cache& /*cache*/) {
    return {};
  }
};

class block_stage;
class weight_source;

class runner {
 public:
  // `corrupt` or `invalid_argument` when the weights do not fit the config: the tensor is named; also
  // `invalid_argument` for a group of a size that the model cannot be cut for; `out_of_space` for weights
  // that a device has no room for.
  static result<runner> load(const std::filesystem::path& model_folder, const runner_options& options);
  // The shape of `config` with bf16 noise as weights, equal for equal seeds: for measuring.
  static result<runner> with_random_weights(const model_config& config, const runner_options& options,
                                            std::uint64_t seed);
  runner(runner&&) noexcept;
  runner& operator=(runner&&) noexcept;
  ~runner();

  const model_config& config() const;           // of this rank's part of the model
  const block::model_spec& spec() const;        // of the whole model, with the weights' digest
  const std::filesystem::path& folder() const;  // empty: the weights came out of none
  const model_shard& shard() const;
  kv_shape cache_shape() const;  // of this rank's heads

  // What a rank of a group may only go on with if all can: its own failure, or the others'. All ranks call
  // it, or none. Without a group, `own`.
  result<void> agreed(result<void> own);

  // What rows from the pool are rotated with, and on which threads: between calls of `forward` only.
  std::span<const float> rope_frequencies() const;
  kernels::thread_pool& threads();

  // Where the model runs; null on the CPU.
  const std::shared_ptr<const compute_device>& device() const;
  // What brings rows of blocks to the device that the model runs on, or null on the CPU. Between calls of
  // `forward`, and for an observer before its rows.
  block_stage* stage();

  // What the forward pass calls attention with, and what it multiplies a query head's result with: W_O e_i
  // for the head's i-th channel, [head_dim][hidden_size]. The latter between calls of `forward` only.
  const kernels::attention_shape& attention() const;
  void output_columns(std::uint32_t layer, std::uint32_t query_head, std::span<float> out);

  // Computes the rows, adds their K and V to their caches (or overwrites the row at the same position) and
  // writes the logits of the wanted rows: [logits_rows][vocab]. `out_of_space` when a cache is full,
  // `invalid_argument` for a batch that contradicts itself or the model: nothing was changed then, on any
  // rank. What a group's communicator or a device reports later leaves the caches' rows from these positions
  // on undefined. A row's logits do not depend on the other sessions of a decode step (on a device: but for
  // their last digits). One call at a time per runner.
  result<void> forward(const row_batch& batch, std::span<kv_cache* const> caches, std::span<float> logits,
                       forward_observer* observer = nullptr);

  // The same for the rows of one cache of which some end halfway; none of those may want logits. Returns the
  // rows that were computed in all layers, ascending.
  result<std::vector<std::uint32_t>> forward_selected(const row_batch& batch, kv_cache& cache,
                                                      const row_selection& selection,
                                                      std::span<float> logits);

 private:
  struct state;
  explicit runner(std::unique_ptr<state> s);
  static result<runner> make(std::unique_ptr<state> s, weight_source& source);
  std::unique_ptr<state> state_;
};

}  // namespace weft::engine
