// Query rows and the rows they attend to, of random shapes, for tests of attention by columns.
#pragma once

#include <weft/kernels/attention_prefill.hpp>

#include "random_rows.hpp"
#include <reference/attention_columns.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace weft::kernels::testing {

struct column_case {
  explicit column_case(std::uint32_t seed) : random(seed) {
    shape.kv_heads = random.between(1, 3);
    shape.query_heads = shape.kv_heads * random.between(1, 7);
    shape.head_dim = random.coin() ? 32 * random.between(1, 4) : 2 * random.between(1, 80);
    shape.kv_dtype = all_dtypes[random.between(0, 2)];
    shape.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim));
    shape.allowed = products::f32;
    rows = random.between(1, 600);
    for (std::uint32_t row = 0; row < rows; ++row) {
      key_positions.push_back(static_cast<std::int32_t>(row));
      key_segments.push_back(static_cast<std::int32_t>(row / 100 % 3));
    }
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      keys.emplace_back(shape.kv_dtype, random.values(std::size_t{rows} * shape.head_dim));
    const std::uint32_t first = random.between(0, rows - 1);
    const std::uint32_t count = random.between(1, std::min(rows - first, 70U));
    for (std::uint32_t i = 0; i < count; ++i) {
      positions.push_back(static_cast<std::int32_t>(first + i));
      segments.push_back(random.coin() ? 0 : key_segments[first + i]);
    }
    stride = std::size_t{shape.query_heads} * shape.head_dim + random.between(0, 3);
    q = random.values(count * stride, 2.0F);
    for (std::uint32_t head = 0; head < shape.kv_heads; ++head)
      values.emplace_back(shape.kv_dtype, random.values(std::size_t{rows} * shape.head_dim));
  }

  prefill_queries queries() const {
    return {q.data(), stride, static_cast<std::uint32_t>(positions.size()), positions.data(),
            segments.data()};
  }

  // Rows [begin, end) of every KV head.
  std::vector<prefill_kv_head> heads(std::uint32_t begin, std::uint32_t end) const {
    std::vector<prefill_kv_head> views;
    const std::size_t offset = std::size_t{begin} * shape.head_dim * size_bytes(shape.kv_dtype);
    for (std::size_t head = 0; head < keys.size(); ++head)
      views.push_back({keys[head].bytes.data() + offset, values[head].bytes.data() + offset, end - begin,
                       key_positions.data() + begin, key_segments.data() + begin});
    return views;
  }

  // z[query][key] of one query head; -infinity where the query does not see the key.
  std::vector<std::vector<double>> logits(std::size_t query_head) const {
    const std::size_t head = query_head / (shape.query_heads / shape.kv_heads);
    std::vector<std::vector<double>> z;
    for (std::size_t row = 0; row < positions.size(); ++row)
      z.push_back(reference::attention_logits(
          q.data() + row * stride + query_head * shape.head_dim, {positions[row], segments[row]},
          keys[head].values_of_bytes.data(), key_positions, key_segments, shape.head_dim, shape.scale));
    return z;
  }

  random_source random;
  attention_shape shape;
  std::uint32_t rows = 0;
  std::vector<std::int32_t> key_positions, key_segments, positions, segments;
  std::vector<stored_values> keys, values;
  std::vector<float> q;
  std::size_t stride = 0;
};

inline double relative(double found, double expected) {
  if (std::isinf(expected)) return found < -1e29 ? 0.0 : INFINITY;
  return std::fabs(found - expected) / std::max(1.0, std::fabs(expected));
}

}  // namespace weft::kernels::testing
