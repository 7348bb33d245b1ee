#include <weft/actors/device_landing.hpp>
#include <weft/fabric/ucx_transport.hpp>

#include <utility>

namespace weft::actors {

result<std::shared_ptr<const device_landing>> make_device_landing(
    std::shared_ptr<const engine::compute_device> on, std::span<std::byte> beside,
    fabric::transport& transport, const device_on_host& on_host) {
  if (!on_host && !fabric::moves_cuda_memory(transport))
    return fail(errc::unsupported, "UCX does not move CUDA memory");
  auto blocks = engine::block_landing::make(std::move(on), beside);
  if (!blocks) return tl::make_unexpected(blocks.error());
  // UCX asks CUDA about it, in the context that allocating has made this thread's.
  const auto bytes = (*blocks)->memory();
  auto memory = on_host ? transport.register_memory(on_host(bytes), fabric::memory_kind::host)
                        : transport.register_memory(bytes, fabric::memory_kind::cuda);
  if (!memory) return tl::make_unexpected(memory.error());
  return std::make_shared<const device_landing>(std::move(*blocks), std::move(*memory));
}

}  // namespace weft::actors
