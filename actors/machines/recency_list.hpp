// Slots in the order of their last use, by number; constant time and no memory per change.
#pragma once

#include <cstdint>
#include <vector>

namespace weft::machines {

class recency_list {
 public:
  static constexpr std::uint32_t none = ~0U;

  // `slot` becomes the most recent. It must not be in the list.
  void add(std::uint32_t slot) {
    if (slot >= links_.size()) links_.resize(slot + 1);
    links_[slot] = {.colder = hottest_, .hotter = none, .listed = true};
    if (hottest_ != none) links_[hottest_].hotter = slot;
    if (coldest_ == none) coldest_ = slot;
    hottest_ = slot;
  }

  void remove(std::uint32_t slot) {
    const link l = links_[slot];
    (l.colder == none ? coldest_ : links_[l.colder].hotter) = l.hotter;
    (l.hotter == none ? hottest_ : links_[l.hotter].colder) = l.colder;
    links_[slot] = {};
  }

  bool contains(std::uint32_t slot) const { return slot < links_.size() && links_[slot].listed; }
  std::uint32_t coldest() const { return coldest_; }
  std::uint32_t hotter_than(std::uint32_t slot) const { return links_[slot].hotter; }

 private:
  struct link {
    std::uint32_t colder = none;
    std::uint32_t hotter = none;
    bool listed = false;
  };

  std::vector<link> links_;
  std::uint32_t coldest_ = none;
  std::uint32_t hottest_ = none;
};

}  // namespace weft::machines
