// Memory of the caller's that UCX may write to.
//
// Of a CUDA device's: a get is complete on the host when the network's card has written its bytes to the
// device (GPUDirect), and CUDA orders such writes before the copies and kernels that are submitted then, not
// before those that run already. Nothing else is relied on, and no flush is asked for.
#pragma once

#include <weft/fabric/registered_memory.hpp>

#include "ucx/context.hpp"

#include <memory>
#include <type_traits>
#include <utility>

namespace weft::fabric {

class ucx_registration final : public registered_memory {
 public:
  using memory_pointer = std::shared_ptr<std::remove_pointer_t<ucp_mem_h>>;

  // Any thread. `unsupported` where UCX does not move that kind of memory.
  static result<std::shared_ptr<const ucx_registration>> make(const ucx_context& context,
                                                              std::span<std::byte> bytes, memory_kind kind);
  ucx_registration(ucx_context context, memory_pointer memory, std::span<std::byte> bytes, memory_kind kind)
      : registered_memory(bytes, kind), context_(std::move(context)), memory_(std::move(memory)) {}

  // The same, if the context has it; null for any other.
  static std::shared_ptr<const ucx_registration> find(const ucx_context& context,
                                                      std::shared_ptr<const registered_memory> memory);

  ucp_mem_h handle() const { return memory_.get(); }
  ucs_memory_type_t type() const;

 private:
  ucx_context context_;
  memory_pointer memory_;
};

}  // namespace weft::fabric
