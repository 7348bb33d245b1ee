// What was counted of a set's contexts, by task, in the order in which tasks first appear.
#pragma once

#include <algorithm>
#include <list>
#include <string>
#include <utility>

namespace weft::launcher::study {

template <class Tally>
class by_task {
 public:
  // Stays where it is while others are added.
  Tally& of(const std::string& task) {
    const auto found = std::ranges::find(tallies_, task, [](const auto& entry) { return entry.first; });
    if (found != tallies_.end()) return found->second;
    return tallies_.emplace_back(task, Tally{}).second;
  }

  auto begin() const { return tallies_.begin(); }
  auto end() const { return tallies_.end(); }

 private:
  std::list<std::pair<std::string, Tally>> tallies_;
};

}  // namespace weft::launcher::study
