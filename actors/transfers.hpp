// What came from whom, summed by holder, transport and path.
#pragma once

#include <weft/actors/messages.hpp>

#include <algorithm>
#include <utility>
#include <vector>

namespace weft::actors {

inline void add_transfer(std::vector<transfer_summary>& all, transfer_summary more) {
  const auto same = std::find_if(all.begin(), all.end(), [&](const transfer_summary& known) {
    return known.holder == more.holder && known.transport == more.transport && known.path == more.path;
  });
  if (same != all.end()) {
    same->bytes += more.bytes;
  } else if (more.bytes > 0) {
    all.push_back(std::move(more));
  }
}

}  // namespace weft::actors
