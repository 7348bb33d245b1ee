#include "ucx/registration.hpp"

#include <string>

namespace weft::fabric {

namespace {

ucs_memory_type_t type_of(memory_kind kind) {
  return kind == memory_kind::cuda ? UCS_MEMORY_TYPE_CUDA : UCS_MEMORY_TYPE_HOST;
}

// What is older copies small gets to their destination with memcpy, wherever that is.
bool gets_into_devices() {
  constexpr std::pair first{1U, 16U};
  std::pair version{0U, 0U};
  unsigned release = 0;
  ucp_get_version(&version.first, &version.second, &release);
  return version >= first;
}

}  // namespace

result<std::shared_ptr<const ucx_registration>> ucx_registration::make(const ucx_context& context,
                                                                       std::span<std::byte> bytes,
                                                                       memory_kind kind) {
  if (bytes.empty()) return fail(errc::invalid_argument, "no memory to register");
  if (kind == memory_kind::cuda && !moves_cuda_memory(context))
    return fail(errc::unsupported, "UCX does not move the memory of CUDA devices here");
  if (kind == memory_kind::cuda && !gets_into_devices())
    return fail(errc::unsupported, "UCX before 1.16 does not fetch into the memory of devices");
  ucp_mem_map_params_t params{};
  params.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_MEMORY_TYPE;
  params.address = bytes.data();
  params.length = bytes.size();
  params.memory_type = type_of(kind);
  ucp_mem_h raw = nullptr;
  if (const auto status = ucp_mem_map(context.get(), &params, &raw); status != UCS_OK)
    return fail(errc::unsupported, "registering " + std::to_string(bytes.size()) +
                                       " bytes with UCX: " + ucs_status_string(status));
  memory_pointer memory{raw, [context](ucp_mem_h m) { ucp_mem_unmap(context.get(), m); }};
  return std::make_shared<const ucx_registration>(context, std::move(memory), bytes, kind);
}

std::shared_ptr<const ucx_registration> ucx_registration::find(
    const ucx_context& context, std::shared_ptr<const registered_memory> memory) {
  auto known = std::dynamic_pointer_cast<const ucx_registration>(std::move(memory));
  return known && known->context_ == context ? known : nullptr;
}

ucs_memory_type_t ucx_registration::type() const {
  return type_of(kind());
}

}  // namespace weft::fabric
