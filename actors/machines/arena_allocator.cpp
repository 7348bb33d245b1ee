#include <weft/machines/arena_allocator.hpp>

#include <algorithm>
#include <bit>
#include <stdexcept>

namespace weft::machines {
namespace {

constexpr unsigned looks_in_own_list = 16;

constexpr std::uint32_t index_of(arena_allocator::place p) {
  return static_cast<std::uint32_t>(p);
}

}  // namespace

arena_allocator::arena_allocator(std::uint64_t base, std::uint64_t capacity_bytes)
    : base_(base), capacity_units_(capacity_bytes / unit_bytes) {
  if (base % unit_bytes != 0 || capacity_bytes % unit_bytes != 0) {
    throw std::invalid_argument("the range of an arena allocator starts and ends on multiples of 4 KiB");
  }
  if (capacity_units_ >= none) throw std::invalid_argument("an arena allocator covers less than 16 TiB");
  heads_.fill(none);
  if (capacity_units_ == 0) return;
  first_ = new_chunk();
  chunks_[first_].units = static_cast<std::uint32_t>(capacity_units_);
  link(first_);
}

std::optional<arena_allocator::place> arena_allocator::allocate(std::uint64_t bytes, std::uint32_t owner) {
  if (bytes == 0 || bytes > free_bytes()) return std::nullopt;
  const auto units = static_cast<std::uint32_t>((bytes + unit_bytes - 1) / unit_bytes);
  const std::uint32_t c = find_hole(units);
  if (c == none) return std::nullopt;
  unlink(c);
  if (chunks_[c].units > units) split(c, units);
  chunks_[c].taken = true;
  chunks_[c].owner = owner;
  used_units_ += units;
  return place{c};
}

std::vector<arena_allocator::place> arena_allocator::restore(std::span<const extent> taken) {
  if (used_units_ != 0) throw std::logic_error("an arena allocator is restored before it is used");
  std::vector<place> places;
  places.reserve(taken.size());
  std::uint32_t c = first_;
  for (const extent& wanted : taken) {
    const std::uint64_t start = (wanted.offset - base_) / unit_bytes;
    const std::uint64_t units = (wanted.bytes + unit_bytes - 1) / unit_bytes;
    if (c == none || wanted.offset < base_ || units == 0 || start < chunks_[c].start ||
        start + units > capacity_units_) {
      throw std::invalid_argument("places to restore overlap or lie outside the range");
    }
    unlink(c);
    if (const auto gap = static_cast<std::uint32_t>(start - chunks_[c].start); gap != 0) {
      split(c, gap);
      link(c);
      c = chunks_[c].behind;
      unlink(c);
    }
    if (chunks_[c].units > units) split(c, static_cast<std::uint32_t>(units));
    chunks_[c].taken = true;
    chunks_[c].owner = wanted.owner;
    used_units_ += units;
    places.push_back(place{c});
    c = chunks_[c].behind;
  }
  return places;
}

void arena_allocator::free(place p) {
  std::uint32_t c = index_of(p);
  used_units_ -= chunks_[c].units;
  chunks_[c].taken = false;
  if (const std::uint32_t behind = chunks_[c].behind; behind != none && !chunks_[behind].taken) {
    unlink(behind);
    merge_with_behind(c);
  }
  if (const std::uint32_t before = chunks_[c].before; before != none && !chunks_[before].taken) {
    unlink(before);
    merge_with_behind(before);
    c = before;
  }
  link(c);
}

void arena_allocator::shrink(place p, std::uint64_t bytes) {
  const std::uint32_t c = index_of(p);
  const auto units = static_cast<std::uint32_t>((bytes + unit_bytes - 1) / unit_bytes);
  if (units == 0 || units >= chunks_[c].units) return;
  used_units_ -= chunks_[c].units - units;
  split(c, units);
  const std::uint32_t rest = chunks_[c].behind;
  const std::uint32_t behind = chunks_[rest].behind;
  if (behind == none || chunks_[behind].taken) return;
  unlink(rest);
  unlink(behind);
  merge_with_behind(rest);
  link(rest);
}

std::uint64_t arena_allocator::offset(place p) const {
  return base_ + chunks_[index_of(p)].start * unit_bytes;
}

std::uint64_t arena_allocator::size_bytes(place p) const {
  return chunks_[index_of(p)].units * unit_bytes;
}

arena_allocator::neighbour arena_allocator::before(place p) const {
  return describe(chunks_[index_of(p)].before);
}

arena_allocator::neighbour arena_allocator::behind(place p) const {
  return describe(chunks_[index_of(p)].behind);
}

arena_allocator::neighbour arena_allocator::describe(std::uint32_t c) const {
  if (c == none) return {};
  const chunk& n = chunks_[c];
  return {.exists = true, .taken = n.taken, .owner = n.owner, .bytes = n.units * unit_bytes, .at = place{c}};
}

std::uint64_t arena_allocator::largest_hole_bytes() const {
  for (unsigned word = static_cast<unsigned>(filled_.size()); word-- > 0;) {
    if (filled_[word] == 0) continue;
    const unsigned list = word * 64 + 63 - static_cast<unsigned>(std::countl_zero(filled_[word]));
    std::uint32_t largest = 0;
    for (std::uint32_t c = heads_[list]; c != none; c = chunks_[c].list_behind) {
      largest = std::max(largest, chunks_[c].units);
    }
    return largest * unit_bytes;
  }
  return 0;
}

// Up to 31 units: one list for each size. Above: 32 lists for each power of two.
unsigned arena_allocator::list_of(std::uint32_t units) {
  constexpr std::uint32_t exact = 1U << sub_bits;
  if (units < exact) return units;
  const auto top = static_cast<unsigned>(std::bit_width(units)) - 1 - sub_bits;
  return ((top + 1) << sub_bits) + ((units >> top) & (exact - 1));
}

// Places in the own list may be too small or fit well; every one of a later list is large enough.
std::uint32_t arena_allocator::find_hole(std::uint32_t units) const {
  const unsigned own = list_of(units);
  if (const std::uint32_t c = best_in_list(own, units); c != none) return c;
  const unsigned later = next_list(own + 1);
  return later == lists ? none : best_in_list(later, units);
}

std::uint32_t arena_allocator::best_in_list(unsigned list, std::uint32_t units) const {
  std::uint32_t best = none;
  unsigned looks = looks_in_own_list;
  for (std::uint32_t c = heads_[list]; c != none && looks > 0; c = chunks_[c].list_behind, --looks) {
    if (chunks_[c].units == units) return c;
    if (chunks_[c].units > units && (best == none || chunks_[c].units < chunks_[best].units)) best = c;
  }
  return best;
}

unsigned arena_allocator::next_list(unsigned from) const {
  if (from >= lists) return lists;
  unsigned word = from / 64;
  std::uint64_t bits = filled_[word] & (~std::uint64_t{0} << (from % 64));
  while (bits == 0) {
    if (++word == filled_.size()) return lists;
    bits = filled_[word];
  }
  return word * 64 + static_cast<unsigned>(std::countr_zero(bits));
}

std::uint32_t arena_allocator::new_chunk() {
  if (unused_ != none) {
    const std::uint32_t c = unused_;
    unused_ = chunks_[c].list_behind;
    chunks_[c] = chunk{};
    return c;
  }
  chunks_.emplace_back();
  return static_cast<std::uint32_t>(chunks_.size() - 1);
}

void arena_allocator::drop_chunk(std::uint32_t c) {
  chunks_[c] = chunk{};
  chunks_[c].list_behind = unused_;
  unused_ = c;
}

void arena_allocator::link(std::uint32_t c) {
  const unsigned list = list_of(chunks_[c].units);
  chunks_[c].list_before = none;
  chunks_[c].list_behind = heads_[list];
  if (heads_[list] != none) chunks_[heads_[list]].list_before = c;
  heads_[list] = c;
  filled_[list / 64] |= std::uint64_t{1} << (list % 64);
}

void arena_allocator::unlink(std::uint32_t c) {
  const chunk& n = chunks_[c];
  if (n.list_behind != none) chunks_[n.list_behind].list_before = n.list_before;
  if (n.list_before != none) {
    chunks_[n.list_before].list_behind = n.list_behind;
    return;
  }
  const unsigned list = list_of(n.units);
  heads_[list] = n.list_behind;
  if (heads_[list] == none) filled_[list / 64] &= ~(std::uint64_t{1} << (list % 64));
}

// Leaves the first `units` in `c`; the rest becomes a hole of its own.
void arena_allocator::split(std::uint32_t c, std::uint32_t units) {
  const std::uint32_t rest = new_chunk();
  chunk& front = chunks_[c];
  chunk& back = chunks_[rest];
  back.start = front.start + units;
  back.units = front.units - units;
  back.before = c;
  back.behind = front.behind;
  if (back.behind != none) chunks_[back.behind].before = rest;
  front.units = units;
  front.behind = rest;
  link(rest);
}

void arena_allocator::merge_with_behind(std::uint32_t c) {
  const std::uint32_t gone = chunks_[c].behind;
  chunks_[c].units += chunks_[gone].units;
  chunks_[c].behind = chunks_[gone].behind;
  if (chunks_[c].behind != none) chunks_[chunks_[c].behind].before = c;
  drop_chunk(gone);
}

bool arena_allocator::consistent() const {
  std::uint64_t next_start = 0;
  std::uint64_t used = 0;
  std::size_t holes = 0;
  std::uint32_t previous = none;
  for (std::uint32_t c = first_; c != none; previous = c, c = chunks_[c].behind) {
    const chunk& n = chunks_[c];
    if (n.start != next_start || n.units == 0 || n.before != previous) return false;
    if (previous != none && !n.taken && !chunks_[previous].taken) return false;  // should have been merged
    next_start += n.units;
    if (n.taken) {
      used += n.units;
    } else {
      ++holes;
    }
  }
  std::size_t listed = 0;
  for (unsigned list = 0; list < lists; ++list) {
    const bool marked = ((filled_[list / 64] >> (list % 64)) & 1U) != 0;
    if (marked != (heads_[list] != none)) return false;
    for (std::uint32_t c = heads_[list]; c != none; c = chunks_[c].list_behind) {
      if (chunks_[c].taken || list_of(chunks_[c].units) != list) return false;
      ++listed;
    }
  }
  return next_start == capacity_units_ && used == used_units_ && holes == listed;
}

}  // namespace weft::machines
