// Places of uneven size within a range of bytes: good fit over segregated free lists, neighbours merged at
// once, constant time but for a bounded look at the best list. It keeps books only; the bytes are elsewhere.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace weft::machines {

class arena_allocator {
 public:
  static constexpr std::uint64_t unit_bytes = 4096;

  enum class place : std::uint32_t {};  // valid until freed, then reused

  // `base` and `capacity_bytes` are multiples of `unit_bytes`; at most 16 TiB.
  arena_allocator(std::uint64_t base, std::uint64_t capacity_bytes);

  // A place of at least `bytes` (rounded up to units); `owner` is the caller's mark on it. Nothing where no
  // hole is large enough.
  std::optional<place> allocate(std::uint64_t bytes, std::uint32_t owner);
  void free(place p);
  // Gives back what lies behind its first `bytes`, which are fewer than it has and more than none.
  void shrink(place p, std::uint64_t bytes);

  struct extent {
    std::uint64_t offset = 0;  // a multiple of `unit_bytes`, within the range
    std::uint64_t bytes = 0;
    std::uint32_t owner = 0;
  };
  // Takes places that are known from an earlier life: ascending, apart, and before anything else is
  // allocated.
  std::vector<place> restore(std::span<const extent> taken);

  std::uint64_t offset(place p) const;
  std::uint64_t size_bytes(place p) const;

  // What lies before and behind, free or taken.
  struct neighbour {
    bool exists = false;
    bool taken = false;
    std::uint32_t owner = 0;  // of a taken one
    std::uint64_t bytes = 0;
    place at{};
  };
  neighbour before(place p) const;
  neighbour behind(place p) const;

  std::uint64_t capacity_bytes() const { return capacity_units_ * unit_bytes; }
  std::uint64_t used_bytes() const { return used_units_ * unit_bytes; }
  std::uint64_t free_bytes() const { return capacity_bytes() - used_bytes(); }
  std::uint64_t largest_hole_bytes() const;

  // Walks the whole range and checks the books; for tests. False where they do not add up.
  bool consistent() const;

 private:
  static constexpr std::uint32_t none = ~0U;
  static constexpr unsigned sub_bits = 5;  // 32 lists for each power of two
  static constexpr unsigned top_lists = 33 - sub_bits;
  static constexpr unsigned lists = top_lists << sub_bits;

  struct chunk {
    std::uint32_t start = 0;  // units
    std::uint32_t units = 0;
    std::uint32_t before = none, behind = none;            // in the range
    std::uint32_t list_before = none, list_behind = none;  // in the free list, or of the unused chunk records
    std::uint32_t owner = 0;
    bool taken = false;
  };

  static unsigned list_of(std::uint32_t units);
  std::uint32_t find_hole(std::uint32_t units) const;
  std::uint32_t best_in_list(unsigned list, std::uint32_t units) const;
  std::uint32_t next_list(unsigned from) const;
  std::uint32_t new_chunk();
  void drop_chunk(std::uint32_t c);
  void link(std::uint32_t c);
  void unlink(std::uint32_t c);
  void split(std::uint32_t c, std::uint32_t units);
  void merge_with_behind(std::uint32_t c);
  neighbour describe(std::uint32_t c) const;

  std::uint64_t base_;
  std::uint64_t capacity_units_;
  std::uint64_t used_units_ = 0;
  std::vector<chunk> chunks_;
  std::uint32_t unused_ = none;
  std::uint32_t first_ = none;
  std::array<std::uint32_t, lists> heads_;
  std::array<std::uint64_t, (lists + 63) / 64> filled_{};  // bit per list that is not empty
};

}  // namespace weft::machines
