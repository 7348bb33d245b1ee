// Memory that UCX allocated, so that peers on this host can map it and others can read it.
#pragma once

#include <weft/fabric/wire/node_address.hpp>

#include "ucx/context.hpp"

#include <cstddef>
#include <span>
#include <vector>

namespace weft::fabric {

class ucx_arena {
 public:
  // Zeroed. `bytes` > 0, and a probe area behind them; out_of_space where the machine has less.
  static result<ucx_arena> make(const ucx_context& context, std::size_t bytes);

  std::span<std::byte> bytes() const { return bytes_; }
  // With the probe area: what peers may ask for.
  std::span<const std::byte> readable() const { return {bytes_.data(), bytes_.size() + probe_area_bytes}; }
  ucp_mem_h handle() const { return memory_.get(); }

  // What a peer needs to read it.
  result<std::vector<std::byte>> packed_key() const;

 private:
  using memory_pointer = std::shared_ptr<std::remove_pointer_t<ucp_mem_h>>;

  ucx_arena(ucx_context context, memory_pointer memory, std::span<std::byte> bytes)
      : context_(std::move(context)), memory_(std::move(memory)), bytes_(bytes) {}

  ucx_context context_;
  memory_pointer memory_;
  std::span<std::byte> bytes_;
};

}  // namespace weft::fabric
