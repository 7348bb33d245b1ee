// What a manifest says about the bands of its document.
#pragma once

#include <weft/actors/messages.hpp>
#include <weft/engine/banded_document.hpp>
#include <weft/schema/manifest.hpp>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace weft::actors {

// How a document is to be scored, as a request says it; none where it is not. `unsupported` for a policy that
// there is not, `invalid_argument` for bands that cannot be cut.
result<std::optional<engine::banding>> banding_of(const encode_request& request);
// As it was scored.
result<std::optional<engine::banding>> banding_of(const schema::manifest& m);

// Bands, meaning and tables of an encoded document; without the ends of its bands, which come with its
// blocks.
void describe_bands(schema::manifest& m, const engine::banded_document& document);

// How many bands a reader of that ratio takes: up to the first that keeps at least so much. 0: all there are.
// `invalid_argument` where the document keeps fewer rows, or was not scored.
result<std::uint32_t> bands_for(const schema::manifest& m, std::uint32_t ratio_millionths);

// Of the first `bands` bands of a block; 0 where it is not known: all of it then.
std::uint64_t front_bytes(const schema::manifest& m, std::size_t block, std::uint32_t bands);
// Of those of all blocks, by band; empty where it is not known.
std::vector<std::uint64_t> band_bytes(const schema::manifest& m);

// [layer][kv_head]: rows of the first `bands` bands. Empty: every token, in every head.
std::span<const std::uint32_t> rows_of(const schema::manifest& m, std::uint32_t bands);

// Of the largest ratio that is held whole, where `held` has the bytes of each block.
std::uint32_t served_millionths(const schema::manifest& m, std::span<const std::uint64_t> held);

std::vector<std::uint32_t> band_millionths(const schema::manifest& m);

// As people write it: 0.3, not 0.300000.
std::string decimal_of(double ratio);

}  // namespace weft::actors
