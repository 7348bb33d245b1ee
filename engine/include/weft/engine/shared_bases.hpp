// Rows that several sessions read and none changes, by what they hold. A base may stand behind another one,
// which stays as long as it does; memory that several stand behind counts once.
#pragma once

#include <weft/base/id128.hpp>
#include <weft/engine/kv_cache.hpp>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <set>

namespace weft::engine {

// A base lives as long as a cache refers to it, and afterwards as long as those that nobody uses stay within
// `idle_bytes`; the one that was asked for longest ago goes first.
class shared_bases {
 public:
  explicit shared_bases(std::uint64_t idle_bytes) : idle_bytes_(idle_bytes) {}

  // Null where there is none; counts as a use. Nobody finds one whose rows are lost.
  std::shared_ptr<const kv_cache> find(const id128& key);
  // What was there under that key stays with those who use it.
  void insert(const id128& key, std::shared_ptr<const kv_cache> base);
  void erase(const id128& key);

  // Whenever a cache was given up.
  void tidy();
  // Of those that nobody uses, the one that was asked for longest ago; false where there is none.
  bool drop_idle();

  std::size_t size() const { return known_.size(); }
  std::uint64_t allocated_bytes() const;

 private:
  struct entry {
    std::shared_ptr<const kv_cache> base;
    std::list<id128>::iterator turn;
  };

  bool drop_what_does_not_fit();
  std::uint64_t bytes_not_counted(const kv_cache& base) const;
  void count(const kv_cache& base) const;

  std::uint64_t idle_bytes_;
  std::map<id128, entry> known_;
  std::list<id128> turns_;                     // asked for longest ago first
  mutable std::set<const kv_cache*> counted_;  // scratch: with all that they stand behind
};

}  // namespace weft::engine
