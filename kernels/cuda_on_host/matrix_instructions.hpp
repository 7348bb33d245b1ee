// The instructions of cuda/matrix_instructions.cuh as the PTX ISA describes them: what they do is
// reference/host_warp.hpp's.
#pragma once

#include "cuda_on_host/block_variables.hpp"
#include "cuda_on_host/together.hpp"
#include "reference/host_warp.hpp"

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

namespace weft::kernels::cuda {

template <bool Transposed>
void load_matrices(const std::uint16_t* row, std::uint32_t& m0, std::uint32_t& m1, std::uint32_t& m2,
                   std::uint32_t& m3, cuda_on_host::source_place at = cuda_on_host::source_place::here()) {
  namespace host = cuda_on_host;
  // A lane reads the row that it names: so sanitizers see who read what.
  struct row_words {
    std::uint64_t word[2];
  };
  host::require_block_memory("ldmatrix", row, sizeof(row_words), at);
  row_words own;
  std::memcpy(&own, row, sizeof own);
  std::uint64_t loaded[4];
  host::work_together(
      "ldmatrix", own.word, loaded,
      [](const host::lane_words& words) {
        std::uint16_t rows[host::warp_lanes][8];
        for (std::uint32_t lane = 0; lane < host::warp_lanes; ++lane)
          std::memcpy(rows[lane], words.brought[lane], sizeof rows[lane]);
        const auto row_of = [&](std::uint32_t lane) -> const std::uint16_t* { return rows[lane]; };
        std::array<std::uint32_t, host::warp_lanes> matrices[4];
        reference::host_warp().load_matrices<Transposed>(row_of, matrices);
        for (std::uint32_t lane = 0; lane < host::warp_lanes; ++lane)
          for (int i = 0; i < 4; ++i)
            words.given[lane][i] = matrices[i][lane];
      },
      at);
  m0 = static_cast<std::uint32_t>(loaded[0]);
  m1 = static_cast<std::uint32_t>(loaded[1]);
  m2 = static_cast<std::uint32_t>(loaded[2]);
  m3 = static_cast<std::uint32_t>(loaded[3]);
}

template <class Elements>
void multiply_add(std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3, std::uint32_t b0,
                  std::uint32_t b1, float& c0, float& c1, float& c2, float& c3,
                  cuda_on_host::source_place at = cuda_on_host::source_place::here()) {
  namespace host = cuda_on_host;
  static_assert(Elements::type == dtype::bf16 || Elements::type == dtype::f16);
  const auto bits = [](float x) -> std::uint64_t { return std::bit_cast<std::uint32_t>(x); };
  const auto number = [](std::uint64_t x) { return std::bit_cast<float>(static_cast<std::uint32_t>(x)); };
  const std::uint64_t own[] = {a0, a1, a2, a3, b0, b1, bits(c0), bits(c1), bits(c2), bits(c3)};
  std::uint64_t sums[4];
  host::work_together(
      "mma", own, sums,
      [](const host::lane_words& words) {
        using words_of_lanes = std::array<std::uint32_t, host::warp_lanes>;
        words_of_lanes a[4], b[2];
        std::array<float, host::warp_lanes> c[4];
        for (std::uint32_t lane = 0; lane < host::warp_lanes; ++lane) {
          const std::uint64_t* const from = words.brought[lane];
          for (int i = 0; i < 4; ++i)
            a[i][lane] = static_cast<std::uint32_t>(from[i]);
          for (int i = 0; i < 2; ++i)
            b[i][lane] = static_cast<std::uint32_t>(from[4 + i]);
          for (int i = 0; i < 4; ++i)
            c[i][lane] = std::bit_cast<float>(static_cast<std::uint32_t>(from[6 + i]));
        }
        reference::host_warp().multiply_add<Elements>(a, b[0], b[1], c);
        for (std::uint32_t lane = 0; lane < host::warp_lanes; ++lane)
          for (int i = 0; i < 4; ++i)
            words.given[lane][i] = std::bit_cast<std::uint32_t>(c[i][lane]);
      },
      at);
  c0 = number(sums[0]);
  c1 = number(sums[1]);
  c2 = number(sums[2]);
  c3 = number(sums[3]);
}

}  // namespace weft::kernels::cuda
