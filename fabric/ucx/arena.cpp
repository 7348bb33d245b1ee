#include "ucx/arena.hpp"

#include "ucx/status.hpp"
#include <sys/mman.h>

namespace weft::fabric {

namespace {

// The first fetch into a page should not pay for its page fault. Kernels before 5.14 refuse, and it does.
void populate(void* begin, std::size_t bytes) {
  madvise(begin, bytes, MADV_POPULATE_WRITE);
}

}  // namespace

result<ucx_arena> ucx_arena::make(const ucx_context& context, std::size_t bytes) {
  ucp_mem_map_params_t params{};
  params.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_FLAGS;
  params.length = bytes + probe_area_bytes;
  params.flags = UCP_MEM_MAP_ALLOCATE;
  ucp_mem_h raw = nullptr;
  if (const auto status = ucp_mem_map(context.get(), &params, &raw); status != UCS_OK)
    return fail(errc::out_of_space, "an arena of " + std::to_string(bytes) + " bytes: " +
                                        ucs_status_string(status) + "; make it smaller or /dev/shm larger");
  memory_pointer memory{raw, [context](ucp_mem_h m) { ucp_mem_unmap(context.get(), m); }};
  ucp_mem_attr_t attributes{};
  attributes.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS | UCP_MEM_ATTR_FIELD_LENGTH;
  if (const auto status = ucp_mem_query(raw, &attributes); status != UCS_OK)
    return fail(status, "asking UCX where the arena is");
  populate(attributes.address, attributes.length);
  return ucx_arena{context, std::move(memory), {static_cast<std::byte*>(attributes.address), bytes}};
}

result<std::vector<std::byte>> ucx_arena::packed_key() const {
  void* buffer = nullptr;
  std::size_t bytes = 0;
  if (const auto status = ucp_rkey_pack(context_.get(), memory_.get(), &buffer, &bytes); status != UCS_OK)
    return fail(status, "packing the arena's remote key");
  const std::unique_ptr<void, decltype(&ucp_rkey_buffer_release)> owner{buffer, ucp_rkey_buffer_release};
  const auto* begin = static_cast<const std::byte*>(buffer);
  return std::vector<std::byte>(begin, begin + bytes);
}

}  // namespace weft::fabric
