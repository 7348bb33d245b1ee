// The first layer computes while the later ones are still on the wire.
#pragma once

#include <weft/base/error.hpp>
#include <weft/engine/stitch.hpp>

#include <cstdint>
#include <functional>
#include <span>

namespace weft::engine {

// Returns when a layer's bytes of all blocks are in their place, or with the reason why they will not be.
// Called once for each layer, from 0 on, on the thread that computes.
using layer_arrival = std::function<result<void>(std::uint32_t layer)>;

// Fills an empty cache with the plan's documents and computes the plan's rows, as `load_documents` and
// `prefill` do, one layer at a time: a layer is rotated and scattered when it has arrived, right before its
// attention. The blocks' header regions are parsed; of the rest only what has arrived is read, and its counts
// and positions are checked, not its checksum: before anything is made of the logits, `block::layer_verifier`
// on the thread that brings layers, or `verify_documents`.
// `unsupported` for a plan that chooses rows or encodes documents. What fails leaves an empty cache.
result<void> prefill_while_loading(runner& model, kv_cache& cache, const policies::stitch_plan& plan,
                                   std::span<const document_blocks> documents, const layer_arrival& wait,
                                   std::span<float> logits, loaded_rows wanted = loaded_rows::here);

// That all bytes are what they say: on the model's threads.
result<void> verify_documents(runner& model, std::span<const document_blocks> documents);

}  // namespace weft::engine
