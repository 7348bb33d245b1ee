// Entries by 128-bit key in little memory: open addressing in segments that grow one by one, by half, so that
// growing neither doubles the memory nor stops the shard for long.
//
// Within a segment entries lie in the order of their hashes at or behind their home place (linear probing
// with ordering), so a search for a key that is not there ends early even in a full segment.
#pragma once

#include <weft/base/id128.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

namespace weft::machines {

// `Entry` is plain data with an `id128 key`; a zero key marks an empty place and cannot be stored.
template <class Entry>
class key_table {
  static_assert(std::is_trivially_copyable_v<Entry>);

 public:
  static constexpr std::size_t segment_count = 256;

  // Valid until the next insert or erase.
  Entry* find(const id128& key) { return const_cast<Entry*>(std::as_const(*this).find(key)); }

  const Entry* find(const id128& key) const {
    const std::uint64_t hash = hash_of(key);
    const segment& s = segments_[segment_of(hash)];
    if (s.used == 0) return nullptr;
    for (std::size_t i = home(s, hash); i < s.places.size() && s.places[i].key; ++i) {
      if (s.places[i].key == key) return &s.places[i];
      if (hash_of(s.places[i].key) > hash) return nullptr;
    }
    return nullptr;
  }

  // The entry of that key, a fresh one (all zero but for the key) where there was none.
  Entry& find_or_insert(const id128& key) {
    if (Entry* present = find(key)) return *present;
    const std::uint64_t hash = hash_of(key);
    segment& s = segments_[segment_of(hash)];
    if ((s.used + 1) * 8 > s.capacity * 7) resize(s, std::max<std::size_t>(8, s.capacity + s.capacity / 2));
    while (true) {
      if (Entry* place = try_insert(s, hash)) {
        *place = Entry{};
        place->key = key;
        ++s.used;
        ++size_;
        return *place;
      }
      resize(s, s.capacity + s.capacity / 8 + 8);
    }
  }

  bool erase(const id128& key) {
    Entry* present = find(key);
    if (present == nullptr) return false;
    segment& s = segments_[segment_of(hash_of(key))];
    std::size_t hole = static_cast<std::size_t>(present - s.places.data());
    while (hole + 1 < s.places.size() && s.places[hole + 1].key && displaced(s, hole + 1)) {
      s.places[hole] = s.places[hole + 1];
      ++hole;
    }
    s.places[hole] = Entry{};
    note_erased(s, 1);
    return true;
  }

  // Erases the entries of one segment for which `gone(Entry&)` holds. `gone` may change what it keeps.
  template <class Predicate>
  void erase_if_in(std::size_t segment_index, Predicate gone) {
    segment& s = segments_[segment_index];
    std::size_t next = 0;
    std::size_t erased = 0;
    for (std::size_t i = 0; i < s.places.size(); ++i) {
      if (!s.places[i].key) continue;
      Entry entry = s.places[i];
      s.places[i] = Entry{};
      if (gone(entry)) {
        ++erased;
        continue;
      }
      next = std::max(home(s, hash_of(entry.key)), next);
      s.places[next++] = entry;
    }
    note_erased(s, erased);
  }

  template <class Visitor>
  void for_each(Visitor visit) const {
    for (const segment& s : segments_) {
      for (const Entry& entry : s.places) {
        if (entry.key) visit(entry);
      }
    }
  }

  // Asks the memory for what `find` will need.
  void prefetch(const id128& key) const {
    const std::uint64_t hash = hash_of(key);
    const segment& s = segments_[segment_of(hash)];
    if (s.used != 0) __builtin_prefetch(s.places.data() + home(s, hash));
  }

  std::size_t size() const { return size_; }
  std::size_t segment_size(std::size_t segment_index) const { return segments_[segment_index].used; }

  std::size_t bytes() const {
    std::size_t total = sizeof(*this);
    for (const segment& s : segments_)
      total += s.places.capacity() * sizeof(Entry);
    return total;
  }

 private:
  struct segment {
    std::vector<Entry> places;  // `capacity` homes and some room behind the last
    std::size_t capacity = 0;
    std::size_t used = 0;
  };

  static std::uint64_t hash_of(const id128& key) {
    std::uint64_t h = (key.low ^ (key.high * 0x9e3779b97f4a7c15ULL)) * 0xd6e8feb86659fd93ULL;
    h ^= h >> 32;
    return h * 0xd6e8feb86659fd93ULL;
  }
  static std::size_t segment_of(std::uint64_t hash) { return hash >> 56; }

  static std::size_t home(const segment& s, std::uint64_t hash) {
    __extension__ using wide = unsigned __int128;
    return static_cast<std::size_t>((static_cast<wide>(hash << 8) * s.capacity) >> 64);
  }
  static bool displaced(const segment& s, std::size_t i) { return home(s, hash_of(s.places[i].key)) != i; }

  // The place for a new entry, later ones moved on by one. nullptr where the room behind is used up.
  static Entry* try_insert(segment& s, std::uint64_t hash) {
    if (s.capacity == 0) return nullptr;
    std::size_t i = home(s, hash);
    while (i < s.places.size() && s.places[i].key && hash_of(s.places[i].key) <= hash)
      ++i;
    std::size_t empty = i;
    while (empty < s.places.size() && s.places[empty].key)
      ++empty;
    if (empty == s.places.size()) return nullptr;
    std::move_backward(s.places.begin() + static_cast<std::ptrdiff_t>(i),
                       s.places.begin() + static_cast<std::ptrdiff_t>(empty),
                       s.places.begin() + static_cast<std::ptrdiff_t>(empty) + 1);
    return &s.places[i];
  }

  static void resize(segment& s, std::size_t capacity) {
    segment bigger;
    bigger.capacity = capacity;
    bigger.used = s.used;
    bigger.places.resize(capacity + 16 + capacity / 64);
    std::size_t next = 0;
    for (const Entry& entry : s.places) {
      if (!entry.key) continue;
      next = std::max(home(bigger, hash_of(entry.key)), next);
      if (next == bigger.places.size()) bigger.places.resize(next + 16);
      bigger.places[next++] = entry;
    }
    s = std::move(bigger);
  }

  void note_erased(segment& s, std::size_t count) {
    s.used -= count;
    size_ -= count;
    if (count != 0 && s.capacity > 64 && s.used * 4 < s.capacity) {
      resize(s, std::max<std::size_t>(8, s.used * 2));
    }
  }

  std::array<segment, segment_count> segments_;
  std::size_t size_ = 0;
};

}  // namespace weft::machines
