#include <weft/machines/block_ways.hpp>

#include <algorithm>

namespace weft::machines {

namespace {

enum class verdict : std::uint8_t {
  nothing,  // is said of the way
  good,
  shortage,
  closed,
};

bool is_refused(const way_outcome& outcome) {
  return outcome.fabric == errc::unsupported && !outcome.came;
}

verdict of_gets(const way_outcome& outcome) {
  switch (outcome.fabric) {
    case errc::ok:
      return outcome.came ? verdict::good : verdict::nothing;
    case errc::internal:
    case errc::unsupported:
      return verdict::closed;
    case errc::invalid_argument:
      // Where others came, one range of them lay outside.
      return outcome.came ? verdict::nothing : verdict::closed;
    case errc::out_of_space:
    case errc::io:
      return verdict::shortage;
    default:  // the holder is gone or slow, or nobody waits any more
      return verdict::nothing;
  }
}

// All else that pieces come to is said of their blocks.
verdict of_device(std::span<const errc> pieces) {
  if (std::ranges::find(pieces, errc::internal) != pieces.end()) return verdict::closed;
  if (std::ranges::find(pieces, errc::out_of_space) != pieces.end()) return verdict::shortage;
  return verdict::good;
}

verdict of_landing(const way_outcome& outcome) {
  const auto gets = of_gets(outcome);
  const auto device = of_device(outcome.pieces);
  return device == verdict::good ? gets : std::max(gets, device);
}

}  // namespace

block_way block_ways::choose(const node_ref& holder, const usable_ways& usable) const {
  const auto at = known_.find(holder);
  const known is = at == known_.end() ? known{} : at->second;
  if (usable.view && is.views) return block_way::view;
  return usable.land && is.lands ? block_way::land : block_way::copy;
}

block_way block_ways::judge(const node_ref& holder, const usable_ways& usable, block_way taken,
                            const way_outcome& outcome) {
  if (taken == block_way::copy) return taken;
  if (taken == block_way::view) {
    if (!is_refused(outcome)) return taken;
    known_[holder].views = false;
    return choose(holder, usable);
  }
  switch (of_landing(outcome)) {
    case verdict::nothing:
      return taken;
    case verdict::good:
      if (const auto at = known_.find(holder); at != known_.end()) at->second.shortages = 0;
      return taken;
    case verdict::shortage:
      if (++known_[holder].shortages == shortages_max) known_[holder].lands = false;
      return block_way::copy;
    case verdict::closed:
      known_[holder].lands = false;
      return block_way::copy;
  }
  return taken;
}

void block_ways::forget(const node_ref& holder) {
  known_.erase(holder);
}

}  // namespace weft::machines
