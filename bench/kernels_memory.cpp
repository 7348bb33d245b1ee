#include <weft/kernels/convert.hpp>
#include <weft/kernels/rope.hpp>
#include <weft/kernels/rotate_scatter.hpp>

#include "kernels_run.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

namespace weft::bench {

kernels::aligned_buffer random_bf16(std::size_t size_bytes, kernels::thread_pool& pool) {
  constexpr std::size_t pattern_values = std::size_t{1} << 20;
  std::mt19937 engine(1);
  std::normal_distribution<float> normal(0.0F, 0.02F);
  std::vector<float> values(pattern_values);
  for (float& value : values)
    value = normal(engine);
  std::vector<std::byte> pattern(pattern_values * 2);
  kernels::from_f32(kernels::dtype::bf16, values.data(), pattern.data(), pattern_values);

  kernels::aligned_buffer out(size_bytes);
  const std::size_t pieces = (size_bytes + pattern.size() - 1) / pattern.size();
  pool.parallel_for(pieces, [&](std::size_t piece, unsigned) {
    const std::size_t first = piece * pattern.size();
    std::memcpy(out.data() + first, pattern.data(), std::min(pattern.size(), size_bytes - first));
  });
  return out;
}

void read_all(std::span<const std::byte> bytes, kernels::thread_pool& pool) {
  constexpr std::size_t piece_bytes = std::size_t{1} << 20;
  std::atomic<std::uint64_t> kept{0};
  pool.parallel_for(bytes.size() / piece_bytes, [&](std::size_t piece, unsigned) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(bytes.data() + piece * piece_bytes);
    std::uint64_t sums[8] = {};
    for (std::size_t i = 0; i < piece_bytes / 8; i += 8) {
      for (std::size_t lane = 0; lane < 8; ++lane)
        sums[lane] += words[i + lane];
    }
    kept.fetch_add(std::accumulate(sums, sums + 8, std::uint64_t{0}), std::memory_order_relaxed);
  });
}

void copy_all(std::span<const std::byte> from, std::byte* to, std::size_t piece_bytes,
              kernels::thread_pool& pool) {
  pool.parallel_for(from.size() / piece_bytes, [&](std::size_t piece, unsigned) {
    std::memcpy(to + piece * piece_bytes, from.data() + piece * piece_bytes, piece_bytes);
  });
}

namespace {

void measure_rotate_scatter(kernels_run& run, std::span<const std::byte> from, std::byte* to,
                            std::uint32_t head_dim) {
  constexpr std::uint32_t block_rows = 64;
  const std::size_t part_bytes = std::size_t{block_rows} * head_dim * 2;
  const std::size_t items_count = from.size() / (2 * part_bytes);
  // A block's rows share one table; in a 1B model that is 16 layers of 8 heads.
  constexpr std::size_t items_per_table = 128;

  const auto frequencies = kernels::rope_frequencies({.theta = 500000.0}, head_dim);
  std::vector<std::uint16_t> entries(block_rows);
  std::iota(entries.begin(), entries.end(), std::uint16_t{0});
  kernels::rotation_table table;
  std::vector<kernels::scatter_rows> items(items_per_table);
  const auto scatter_everything = [&] {
    for (std::size_t first = 0; first + items_per_table <= items_count; first += items_per_table) {
      table.assign(frequencies, static_cast<std::int32_t>(first), block_rows);
      for (std::size_t i = 0; i < items_per_table; ++i) {
        const std::byte* source = from.data() + (first + i) * 2 * part_bytes;
        std::byte* target = to + (first + i) * part_bytes;
        items[i] = {.k = source,
                    .v = source + part_bytes,
                    .source_row_stride = head_dim,
                    .entries = entries.data(),
                    .rows = block_rows,
                    .rotations = &table,
                    .k_out = target,
                    .v_out = target + items_count * part_bytes};
      }
      kernels::rotate_scatter(items, kernels::dtype::bf16, run.pool);
    }
  };
  const auto times =
      measure_beside(run.rounds, scatter_everything, [&] { copy_all(from, to, part_bytes, run.pool); });
  const double gigabytes = static_cast<double>(from.size()) * 1e-9;
  run.add({.name = "rotate and scatter, bf16, head_dim " + std::to_string(head_dim),
           .operation = "rotate_scatter",
           .gb_per_s = gigabytes / times.seconds,
           .limit_name = "memcpy in pieces of the same size",
           .limit_gb_per_s = gigabytes / times.limit_seconds,
           .ratio = times.ratio});
}

}  // namespace

void measure_memory(kernels_run& run) {
  const auto from = random_bf16(stream_bytes, run.pool);
  kernels::aligned_buffer to = random_bf16(stream_bytes, run.pool);
  const std::span<const std::byte> bytes(from.data(), from.size_bytes());
  constexpr std::size_t piece_bytes = std::size_t{1} << 20;
  const auto times = measure_beside(
      run.rounds, [&] { copy_all(bytes, to.data(), piece_bytes, run.pool); },
      [&] { read_all(bytes, run.pool); });
  const double gigabytes = static_cast<double>(stream_bytes) * 1e-9;
  run.add({.name = "memory, read", .operation = "read", .gb_per_s = gigabytes / times.limit_seconds});
  run.add({.name = "memory, memcpy", .operation = "copy", .gb_per_s = gigabytes / times.seconds});
  for (const std::uint32_t head_dim : {64U, 128U})
    measure_rotate_scatter(run, bytes, to.data(), head_dim);
}

}  // namespace weft::bench
