// The blocks of two documents, as fetches bring them to a device's memory.
#pragma once

#include "landed_blocks.hpp"
#include "two_documents.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

namespace weft::engine::test {

// Proven on the device, and not on the host: there their rows are not a number.
class landed_documents {
 public:
  // Of each block the first bands.
  landed_documents(const two_documents& from, const std::shared_ptr<const compute_device>& on,
                   std::uint32_t bands = block::max_bands)
      : plan_(from.plan()), stored_(from.blocks), place_(on, std::size_t{1} << 20U) {
    std::vector<block_landing::arrived> arrived;
    for (const auto& document : from.stored)
      for (std::size_t i = 0; i < document->blocks().size(); ++i) {
        const block::view& stored = document->blocks()[i];
        const std::size_t bytes = stored.end_of_band(std::min(bands, stored.band_count()) - 1);
        arrived.push_back({place_.fetch(document->block_bytes()[i].first(bytes)), exactly(stored.id())});
      }
    place_.deliver();
    for (const auto& outcome : place_.landing().prove(arrived))
      REQUIRE_MESSAGE(outcome.has_value(), outcome.error().context);
    auto next = arrived.begin();
    for (const auto& document : from.stored) {
      auto& views = views_.emplace_back();
      for (std::size_t i = 0; i < document->blocks().size(); ++i, ++next) {
        spoil_rows(next->here);
        views.push_back(block::view::parse(next->here).value());
        places_.push_back(next->here);
      }
    }
  }

  block_landing& landing() const { return place_.landing(); }
  landing_place& place() { return place_; }

  // Where the plan has them.
  std::vector<placed_block> placed(std::size_t document) const {
    return placed(document, views_[document], &landing());
  }
  // The same blocks on the host.
  std::vector<placed_block> stored(std::size_t document) const {
    return placed(document, stored_[document], nullptr);
  }

  // What is added to an empty cache.
  result<void> load(runner& model, kv_cache& cache, loaded_rows wanted) const {
    REQUIRE(reserve_computed_rows(cache, plan_));
    for (std::size_t document = 0; document < views_.size(); ++document)
      if (auto done = scatter_blocks(model, cache, placed(document), wanted); !done) return done;
    return {};
  }

  std::size_t blocks_at_home() const {
    std::size_t count = 0;
    for (const auto place : places_)
      count += block::view::parse(place)->verify_bands() ? 1 : 0;
    return count;
  }
  std::size_t blocks() const { return places_.size(); }

 private:
  std::vector<placed_block> placed(std::size_t document, document_blocks blocks,
                                   block_landing* landing) const {
    const policies::placed_document& to = plan_.documents[document];
    std::vector<placed_block> all;
    std::int32_t position = to.start_position;
    for (const block::view& block : blocks) {
      all.push_back({.block = &block,
                     .bands = block.bands_present(),
                     .start_position = position,
                     .segment = to.segment,
                     .landing = landing});
      position += static_cast<std::int32_t>(block.dimensions().tokens);
    }
    return all;
  }

  policies::stitch_plan plan_;
  std::vector<document_blocks> stored_;
  landing_place place_;
  std::vector<std::vector<block::view>> views_;  // by document
  std::vector<std::span<std::byte>> places_;
};

}  // namespace weft::engine::test
