// How a block is proven whose bytes lie elsewhere, as in a device's memory, and come here in parts:
//
//   bytes of range_of_header              -> view::read over the whole block's place, check_identity
//   XXH3-64 of each present band          -> check_sums
//   bytes of range_of_index, all of them  -> view::verify_rows
#pragma once

#include <weft/base/error.hpp>
#include <weft/block/block_verifier.hpp>
#include <weft/block/layout.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace weft::block {

// Where the header region of a block of that many bytes lies at most.
byte_range range_of_header(std::size_t block_bytes);

// `stale` unless it is what is expected.
result<void> check_identity(const identity& found, const expectation& expected);

// `sums`: of the first bands, those that are to be proven. `corrupt` if one differs or there is none.
result<void> check_sums(const view& block, std::span<const std::uint64_t> sums);

// Where counts and positions of a layer lie at most: not beyond the layer. Nothing in a band whose codec
// there is not.
byte_range range_of_index(const view& block, std::uint32_t band, std::uint32_t layer);

}  // namespace weft::block
