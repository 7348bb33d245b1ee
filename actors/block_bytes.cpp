#include <weft/actors/block_bytes.hpp>
#include <weft/engine/block_landing.hpp>

namespace weft::actors {

block_bytes::~block_bytes() {
  if (landing_) landing_->leave(bytes_.data());
}

}  // namespace weft::actors
