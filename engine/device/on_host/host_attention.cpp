#include "host_attention.hpp"

#include <weft/kernels/row_codec.hpp>

#include "cuda/attention_decode_body.hpp"
#include "host_arguments.hpp"
#include "reference/column_run.hpp"
#include "reference/host_warp.hpp"
#include "reference/prefill_task.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <vector>

namespace weft::engine {

namespace {

using namespace kernels::cuda;
using kernels::attention_shape;
using kernels::dtype;
using kernels::reference::host_warp;
using kernels::reference::reduce_run;
using kernels::reference::run_prefill_task;

// Lanes load 8 channels at once, but for int4 codes.
std::size_t alignment_of(kernels::row_codec coding) {
  return coding == kernels::row_codec::raw ? 16 : coding == kernels::row_codec::int8 ? 8 : 1;
}

// A run with the host's addresses.
template <class Run>
Run found(const device::host_device& on, const Run& run, const attention_shape& shape) {
  const std::size_t bytes = run.rows * kernels::code_bytes(run.coding, shape.kv_dtype, shape.head_dim);
  const std::size_t scales = run.rows * kernels::scales_per_row(run.coding, shape.head_dim);
  Run here = run;
  here.k = on.at(run.k, bytes, alignment_of(run.coding));
  here.v = on.at(run.v, bytes, alignment_of(run.coding));
  here.k_scales = on.at(run.k_scales, scales);
  here.v_scales = on.at(run.v_scales, scales);
  return here;
}

struct found_head {
  const float* q = nullptr;
  float* out = nullptr;
  const kv_run* runs = nullptr;
  std::uint32_t run_count = 0;
  std::vector<kv_run> memory = {};
};

template <class Elements, int Group>
void decode(const device::host_device& on, const attention_shape& shape, const decode_work& work) {
  std::vector<found_head> heads(work.head_count);
  const decode_head* const described = on.at(work.heads, work.head_count);
  for (std::uint32_t i = 0; i < work.head_count; ++i) {
    const decode_head& head = described[i];
    const kv_run* const runs = on.at(head.runs, head.run_count);
    for (std::uint32_t r = 0; r < head.run_count; ++r)
      heads[i].memory.push_back(found(on, runs[r], shape));
    heads[i].q = on.at(head.q, std::size_t{Group} * shape.head_dim);
    heads[i].out = on.at(head.out, std::size_t{Group} * shape.head_dim);
    heads[i].runs = heads[i].memory.data();
    heads[i].run_count = head.run_count;
  }
  const std::size_t stride = Group * partial_floats(shape.head_dim);
  const decode_piece* const pieces = on.at(work.pieces, work.piece_count);
  float* const scratch = on.at(work.scratch, work.piece_count * stride);
  const host_warp warp;
  for (std::uint32_t i = 0; i < work.piece_count; ++i)
    attend_piece<Elements, Group>(warp, heads[pieces[i].head], pieces[i].first_row, pieces[i].rows,
                                  shape.scale * log2_e, shape.head_dim, scratch + i * stride);
  const std::uint32_t* const first_piece = on.at(work.first_piece, work.head_count + std::size_t{1});
  for (std::uint32_t head = 0; head < work.head_count; ++head)
    for (std::uint32_t i = 0; i < Group * shape.head_dim; ++i) {
      const float* const results =
          scratch + first_piece[head] * stride + i / shape.head_dim * partial_floats(shape.head_dim);
      heads[head].out[i] =
          merged_element(results, stride, first_piece[head + 1] - first_piece[head], i % shape.head_dim);
    }
}

template <class Elements>
void decode_group(const device::host_device& on, const attention_shape& shape, const decode_work& work) {
  switch (shape.query_heads / shape.kv_heads) {
    case 1:
      return decode<Elements, 1>(on, shape, work);
    case 2:
      return decode<Elements, 2>(on, shape, work);
    case 3:
      return decode<Elements, 3>(on, shape, work);
    case 4:
      return decode<Elements, 4>(on, shape, work);
    default:
      throw std::invalid_argument("the host's device decodes groups of up to 4 query heads");
  }
}

// What the host's threads read of a prefill's work.
struct found_prefill {
  kernels::prefill_queries queries = {};
  const attention_task* tasks = nullptr;
  const attention_merge* merges = nullptr;
  std::vector<std::vector<prefill_run>> runs = {};  // by KV head
  float* scratch = nullptr;
};

kernels::prefill_queries found_queries(const device::host_device& on, const attention_shape& shape,
                                       const kernels::prefill_queries& queries) {
  kernels::prefill_queries here = queries;
  here.q = on.at(queries.q,
                 span_of(queries.rows, queries.row_stride, std::size_t{shape.query_heads} * shape.head_dim));
  here.positions = on.at(queries.positions, queries.rows);
  here.segments = on.at(queries.segments, queries.rows);
  return here;
}

prefill_run found_rows(const device::host_device& on, const attention_shape& shape, const prefill_run& run) {
  prefill_run here = found(on, run, shape);
  here.positions = on.at(run.positions, run.rows);
  here.segments = on.at(run.segments, run.rows);
  return here;
}

// `channels`: of the values, 0 where sums alone are wanted.
found_prefill found_work(const device::host_device& on, const attention_shape& shape,
                         const prefill_work& work, std::uint32_t channels) {
  found_prefill here{.queries = found_queries(on, shape, work.queries)};
  here.tasks = on.at(work.tasks, work.task_count);
  here.merges = on.at(work.merges, work.merge_count);
  here.scratch = on.at(work.scratch, std::size_t{work.task_count} * tile_lines * line_floats(channels));
  const prefill_head* const heads = on.at(work.heads, shape.kv_heads);
  for (std::uint32_t head = 0; head < shape.kv_heads; ++head) {
    auto& runs = here.runs.emplace_back();
    const prefill_run* const described = on.at(heads[head].runs, heads[head].run_count);
    for (std::uint32_t i = 0; i < heads[head].run_count; ++i)
      runs.push_back(found_rows(on, shape, described[i]));
  }
  return here;
}

template <class Elements, bool Values>
void run_tasks(const attention_shape& shape, const prefill_work& work, const found_prefill& here) {
  const std::size_t floats = line_floats(Values ? shape.head_dim : 0);
  for (std::uint32_t i = 0; i < work.task_count; ++i) {
    const attention_task& task = here.tasks[i];
    const prefill_run& run = here.runs[task.head][task.run];
    float* const partial = here.scratch + std::size_t{i} * tile_lines * floats;
    for_channels(shape.head_dim, [&]<std::uint32_t Channels>() {
      run_prefill_task<Elements, Channels, Values>(here.queries, shape, run, task, partial);
    });
  }
}

template <class Elements>
void prefill(const device::host_device& on, const attention_shape& shape, const prefill_work& work,
             float* out, std::size_t out_stride) {
  const found_prefill here = found_work(on, shape, work, shape.head_dim);
  const std::size_t floats = line_floats(shape.head_dim);
  run_tasks<Elements, true>(shape, work, here);
  const std::uint32_t group = shape.query_heads / shape.kv_heads;
  float* const to =
      on.at(out, span_of(work.queries.rows, out_stride, std::size_t{shape.query_heads} * shape.head_dim));
  for (std::uint32_t m = 0; m < work.merge_count; ++m) {
    const attention_merge& merge = here.merges[m];
    const std::uint32_t lines = std::min(work.queries.rows * group - merge.first_line, tile_lines);
    for (std::uint32_t i = 0; i < lines * shape.head_dim; ++i) {
      const std::uint32_t line = i / shape.head_dim;
      const float* const results =
          here.scratch + (std::size_t{merge.first_task} * tile_lines + line) * floats;
      const std::uint32_t at = merge.first_line + line;
      const std::size_t head = merge.head * group + at % group;
      to[at / group * out_stride + head * shape.head_dim + i % shape.head_dim] =
          merged_element(results, tile_lines * floats, merge.tasks, i % shape.head_dim);
    }
  }
}

template <class Elements>
void sum(const device::host_device& on, const attention_shape& shape, const prefill_work& work, float* out) {
  const found_prefill here = found_work(on, shape, work, 0);
  const std::size_t floats = line_floats(0);
  run_tasks<Elements, false>(shape, work, here);
  const std::uint32_t group = shape.query_heads / shape.kv_heads;
  float* const to = on.at(out, std::size_t{work.queries.rows} * shape.query_heads);
  for (std::uint32_t m = 0; m < work.merge_count; ++m) {
    const attention_merge& merge = here.merges[m];
    const std::uint32_t lines = std::min(work.queries.rows * group - merge.first_line, tile_lines);
    for (std::uint32_t i = 0; i < lines; ++i) {
      const std::uint32_t at = merge.first_line + i;
      to[std::size_t{at / group} * shape.query_heads + std::size_t{merge.head} * group + at % group] =
          merged_log_sum(here.scratch + (std::size_t{merge.first_task} * tile_lines + i) * floats,
                         tile_lines * floats, merge.tasks, -std::numeric_limits<float>::infinity());
    }
  }
}

template <class Elements, bool Sums>
void reduce(const device::host_device& on, const attention_shape& shape, const column_work& work) {
  const kernels::prefill_queries queries = found_queries(on, shape, work.queries);
  const prefill_run* const described = on.at(work.runs, shape.kv_heads);
  const float* const log_sums = on.at(work.log_sums, std::size_t{queries.rows} * shape.query_heads);
  const float* const weights = work.log_weights == nullptr ? nullptr : on.at(work.log_weights, queries.rows);
  for (std::uint32_t head = 0; head < shape.query_heads; ++head) {
    const prefill_run run = found_rows(on, shape, described[head / (shape.query_heads / shape.kv_heads)]);
    if (run.rows > work.most_rows) throw std::invalid_argument("a run has more rows than was said");
    float* const to = on.at(work.out + head * work.out_stride, run.rows);
    const row_lines<kernels::prefill_queries> lines{queries, head, shape.head_dim, queries.rows, weights};
    for_channels(shape.head_dim, [&]<std::uint32_t Channels>() {
      reduce_run<Elements, Channels, Sums>(lines, run, log_sums + head, shape.query_heads, shape.scale, to,
                                           work.replaces);
    });
  }
}

template <class Elements>
void reduce_by(const device::host_device& on, const attention_shape& shape, const column_work& work,
               kernels::column_statistic statistic) {
  if (statistic == kernels::column_statistic::sum) return reduce<Elements, true>(on, shape, work);
  return reduce<Elements, false>(on, shape, work);
}

// `run` with the element type of tensor cores' rows as a template argument.
template <class Run>
void on_tensor_cores(dtype type, const Run& run) {
  if (type == dtype::f32) throw std::invalid_argument("tensor cores take no f32 rows");
  if (type == dtype::bf16) return run.template operator()<bf16_elements>();
  return run.template operator()<f16_elements>();
}

}  // namespace

void attend_decode(const device::host_device& on, const attention_shape& shape, const decode_work& work) {
  switch (shape.kv_dtype) {
    case dtype::bf16:
      return decode_group<bf16_elements>(on, shape, work);
    case dtype::f16:
      return decode_group<f16_elements>(on, shape, work);
    default:
      return decode_group<f32_elements>(on, shape, work);
  }
}

void attend_prefill(const device::host_device& on, const attention_shape& shape, const prefill_work& work,
                    float* out, std::size_t out_stride) {
  on_tensor_cores(shape.kv_dtype,
                  [&]<class Elements>() { prefill<Elements>(on, shape, work, out, out_stride); });
}

void sum_lines(const device::host_device& on, const attention_shape& shape, const prefill_work& work,
               float* out) {
  on_tensor_cores(shape.kv_dtype, [&]<class Elements>() { sum<Elements>(on, shape, work, out); });
}

void reduce_columns(const device::host_device& on, const attention_shape& shape, const column_work& work,
                    kernels::column_statistic statistic) {
  on_tensor_cores(shape.kv_dtype, [&]<class Elements>() { reduce_by<Elements>(on, shape, work, statistic); });
}

}  // namespace weft::engine
