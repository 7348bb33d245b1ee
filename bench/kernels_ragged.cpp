// Decode attention over compressed caches: fewer rows, and as uneven as heads come.
#include <weft/kernels/attention_decode.hpp>

#include "kernels_run.hpp"
#include "llama_attention.hpp"

#include <numeric>
#include <string>
#include <vector>

namespace weft::bench {

namespace {

using namespace kernels;

constexpr std::uint32_t kv_heads = llama_kv_heads;
constexpr std::uint32_t head_dim = llama_head_dim;
constexpr std::uint32_t full_rows = 16384;

// One cache, head after head and layer after layer.
class ragged_cache {
 public:
  // As many layers as fit into the streams.
  ragged_cache(const aligned_buffer& keys, const aligned_buffer& values, std::vector<std::uint32_t> rows)
      : keys_(keys), values_(values), shape_(llama_attention()), rows_(std::move(rows)) {
    layer_rows_ = std::accumulate(rows_.begin(), rows_.end(), std::size_t{0});
    layers_ = keys.size_bytes() / (layer_rows_ * row_bytes);
    q_.assign(std::size_t{shape_.query_heads} * head_dim, 0.3F);
    out_.resize(q_.size());
    plan_.assign(rows_, shape_);
    runs_.resize(kv_heads);
    heads_.resize(kv_heads);
  }

  std::size_t layers() const { return layers_; }
  void use_layers(std::size_t layers) { layers_ = layers; }

  void attend(thread_pool& pool) {
    const std::size_t group_width = q_.size() / kv_heads;
    std::size_t offset = 0;
    for (std::size_t layer = 0; layer < layers_; ++layer) {
      for (std::size_t head = 0; head < kv_heads; offset += rows_[head++] * row_bytes) {
        runs_[head] = {keys_.data() + offset, values_.data() + offset, rows_[head]};
        heads_[head] = {q_.data() + head * group_width, out_.data() + head * group_width, {&runs_[head], 1}};
      }
      attention_decode(shape_, plan_, heads_, scratch_.reserve(plan_.scratch_bytes()), pool);
    }
  }

  // The same bytes in a straight line.
  void read(thread_pool& pool) const {
    read_all({keys_.data(), bytes() / 2}, pool);
    read_all({values_.data(), bytes() / 2}, pool);
  }

  std::size_t bytes() const { return 2 * layers_ * layer_rows_ * row_bytes; }

 private:
  static constexpr std::size_t row_bytes = std::size_t{2} * head_dim;

  const aligned_buffer& keys_;
  const aligned_buffer& values_;
  attention_shape shape_;
  std::vector<std::uint32_t> rows_;
  std::size_t layer_rows_ = 0;
  std::size_t layers_ = 0;
  std::vector<float> q_, out_;
  decode_plan plan_;
  workspace scratch_;
  std::vector<kv_run> runs_;
  std::vector<decode_head> heads_;
};

// Two heads that retrieve keep nearly everything, the others share what is left of `ratio`.
std::vector<std::uint32_t> kept_rows(double ratio) {
  constexpr auto most = static_cast<std::uint32_t>(full_rows * 0.9);
  const auto others =
      static_cast<std::uint32_t>((ratio * kv_heads * full_rows - 2.0 * most) / (kv_heads - 2));
  std::vector<std::uint32_t> rows(kv_heads, others);
  rows[1] = rows[6] = most;
  return rows;
}

void measure_compressed(kernels_run& run, const aligned_buffer& keys, const aligned_buffer& values) {
  ragged_cache full(keys, values, std::vector<std::uint32_t>(kv_heads, full_rows));
  ragged_cache kept(keys, values, kept_rows(0.3));
  kept.use_layers(full.layers());
  const auto times = measure_beside(
      run.rounds, [&] { kept.attend(run.pool); }, [&] { full.attend(run.pool); });
  run.add({.name = "decode attention, 0.3 of 16384 rows, times faster than all of them",
           .operation = "decode_attention",
           .gb_per_s = 1e-9 * static_cast<double>(kept.bytes()) / times.seconds,
           .limit_name = "all rows",
           .limit_gb_per_s = 1e-9 * static_cast<double>(full.bytes()) / times.limit_seconds,
           .ratio = times.ratio});
}

void measure_uneven(kernels_run& run, const aligned_buffer& keys, const aligned_buffer& values) {
  std::vector<std::uint32_t> rows(kv_heads, full_rows / 100);
  rows[3] = full_rows;
  ragged_cache uneven(keys, values, rows);
  const auto times = measure_beside(
      run.rounds, [&] { uneven.attend(run.pool); }, [&] { uneven.read(run.pool); });
  const double gigabytes = 1e-9 * static_cast<double>(uneven.bytes());
  run.add({.name = "decode attention, heads of 16384 and 163 rows",
           .operation = "decode_attention",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "memory read",
           .limit_gb_per_s = gigabytes / times.limit_seconds,
           .ratio = times.ratio});
}

}  // namespace

void measure_ragged_attention(kernels_run& run) {
  const aligned_buffer keys = random_bf16(stream_bytes / 2, run.pool);
  const aligned_buffer values = random_bf16(stream_bytes / 2, run.pool);
  measure_compressed(run, keys, values);
  measure_uneven(run, keys, values);
}

}  // namespace weft::bench
