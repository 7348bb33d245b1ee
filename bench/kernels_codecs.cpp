// Decode attention over rows in int8 and int4, beside the same rows in bf16.
#include <weft/kernels/attention_decode.hpp>
#include <weft/kernels/row_codec.hpp>

#include "kernels_run.hpp"
#include "llama_attention.hpp"

#include <algorithm>
#include <string>
#include <vector>

namespace weft::bench {

namespace {

using namespace kernels;

constexpr std::uint32_t kv_heads = llama_kv_heads;
constexpr std::uint32_t head_dim = llama_head_dim;
constexpr std::uint32_t rows = 16384;  // of each head

// As many rows as a raw tensor has, in a codec.
struct coded_tensor {
  coded_tensor(row_codec codec, const aligned_buffer& raw, thread_pool& pool)
      : coding(codec),
        code_width(code_bytes(codec, dtype::bf16, head_dim)),
        scale_width(scales_per_row(codec, head_dim)) {
    if (codec == row_codec::raw) return;
    const std::size_t count = raw.size_bytes() / (std::size_t{2} * head_dim);
    codes = aligned_buffer(count * code_width);
    scales = aligned_buffer(count * scale_width * sizeof(std::uint16_t));
    pool.parallel_for(count / rows, [&](std::size_t i, unsigned) {
      const std::size_t first = i * rows;
      encode_rows(coding, dtype::bf16, raw.data() + first * 2 * head_dim, head_dim, rows, head_dim,
                  codes.data() + first * code_width, scales_at(first));
    });
  }
  std::uint16_t* scales_at(std::size_t row) {
    return reinterpret_cast<std::uint16_t*>(scales.data()) + row * scale_width;
  }

  row_codec coding;
  std::size_t code_width, scale_width;
  aligned_buffer codes, scales;
};

// One cache in one codec, head after head and layer after layer.
class coded_cache {
 public:
  coded_cache(row_codec coding, const aligned_buffer& raw_keys, const aligned_buffer& raw_values,
              thread_pool& pool)
      : raw_keys_(raw_keys),
        raw_values_(raw_values),
        keys_(coding, raw_keys, pool),
        values_(coding, raw_values, pool),
        shape_(llama_attention()),
        q_(std::size_t{shape_.query_heads} * head_dim, 0.3F),
        out_(q_.size()),
        runs_(kv_heads),
        heads_(kv_heads) {
    plan_.assign(std::vector<std::uint32_t>(kv_heads, rows), shape_);
  }

  std::size_t layers() const {
    return raw_keys_.size_bytes() / (std::size_t{kv_heads} * rows * head_dim * 2);
  }
  std::size_t bytes() const {
    return 2 * layers() * kv_heads * rows * (keys_.code_width + 2 * keys_.scale_width);
  }

  void attend(thread_pool& pool) {
    const std::size_t group_width = q_.size() / kv_heads;
    for (std::size_t layer = 0; layer < layers(); ++layer) {
      for (std::size_t head = 0; head < kv_heads; ++head) {
        const std::size_t first = (layer * kv_heads + head) * rows;
        const bool raw = keys_.coding == row_codec::raw;
        runs_[head] = {(raw ? raw_keys_ : keys_.codes).data() + first * keys_.code_width,
                       (raw ? raw_values_ : values_.codes).data() + first * values_.code_width,
                       rows,
                       keys_.coding,
                       raw ? nullptr : keys_.scales_at(first),
                       raw ? nullptr : values_.scales_at(first)};
        heads_[head] = {q_.data() + head * group_width, out_.data() + head * group_width, {&runs_[head], 1}};
      }
      attention_decode(shape_, plan_, heads_, scratch_.reserve(plan_.scratch_bytes()), pool);
    }
  }

 private:
  const aligned_buffer& raw_keys_;
  const aligned_buffer& raw_values_;
  coded_tensor keys_, values_;
  attention_shape shape_;
  std::vector<float> q_, out_;
  decode_plan plan_;
  workspace scratch_;
  std::vector<kv_run> runs_;
  std::vector<decode_head> heads_;
};

}  // namespace

void measure_coded_attention(kernels_run& run) {
  const aligned_buffer keys = random_bf16(stream_bytes / 2, run.pool);
  const aligned_buffer values = random_bf16(stream_bytes / 2, run.pool);
  coded_cache raw(row_codec::raw, keys, values, run.pool);
  for (const row_codec coding : {row_codec::int8, row_codec::int4}) {
    coded_cache coded(coding, keys, values, run.pool);
    const auto times = measure_beside(
        run.rounds, [&] { coded.attend(run.pool); }, [&] { raw.attend(run.pool); });
    const std::string name(name_of(coding));
    run.add({.name = "decode attention, 16384 rows in " + name + ", times faster than in bf16",
             .operation = "decode_attention",
             .gb_per_s = 1e-9 * static_cast<double>(coded.bytes()) / times.seconds,
             .limit_name = "the same rows in bf16",
             .limit_gb_per_s = 1e-9 * static_cast<double>(raw.bytes()) / times.limit_seconds,
             .ratio = times.ratio});
  }
}

}  // namespace weft::bench
