// How blocks come from each holder: looked at where they are, fetched to a device, or copied into the arena.
// A way that turned out to be none is not tried again in that life of the holder.
#pragma once

#include <weft/base/error.hpp>
#include <weft/machines/node_ref.hpp>

#include <cstdint>
#include <map>
#include <span>
#include <utility>

namespace weft::machines {

enum class block_way : std::uint8_t { view, land, copy };

// What the reader can do with blocks besides copying them.
struct usable_ways {
  bool view = false;
  bool land = false;
};

// What a fetch came to.
struct way_outcome {
  errc fabric = errc::ok;          // of the bytes: of all of them, or of the first range that did not come
  bool came = false;               // some did
  std::span<const errc> pieces{};  // also proven, by who looks at the bytes or by the device
};

class block_ways {
 public:
  // A landing that fails for want of memory is closed when that has happened so often with none between that
  // went well.
  static constexpr unsigned shortages_max = 8;

  // The first of view, land and copy that is usable and not closed.
  block_way choose(const node_ref& holder, const usable_ways& usable) const;

  // Closes the way where the outcome says that it is none. The way by which the same pieces may come now:
  // another than `taken` only where the outcome is the fault of `taken`.
  block_way judge(const node_ref& holder, const usable_ways& usable, block_way taken,
                  const way_outcome& outcome);

  // Its life is over.
  void forget(const node_ref& holder);

 private:
  struct known {
    bool views = true;
    bool lands = true;
    unsigned shortages = 0;  // of landings, in a row
  };
  std::map<node_ref, known> known_;  // without those of which nothing is known
};

}  // namespace weft::machines
