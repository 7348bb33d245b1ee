#include <weft/collective/nccl_group.hpp>

#include "communicator.hpp"

#include <cstring>
#include <string_view>

namespace weft::collective {

namespace {

// An id is this and what NCCL calls its own.
constexpr std::string_view magic = "WFN1";

static_assert(magic.size() + sizeof(ncclUniqueId) == nccl_id_bytes);

result<ncclUniqueId> id_from(const std::string& bytes) {
  ncclUniqueId id;
  if (bytes.size() != nccl_id_bytes || !bytes.starts_with(magic))
    return fail(errc::invalid_argument,
                "the id of a group over NCCL is none: it has " + std::to_string(bytes.size()) + " bytes");
  std::memcpy(id.internal, bytes.data() + magic.size(), sizeof id.internal);
  return id;
}

result<void> check_group(unsigned rank, unsigned ranks, const nccl_group_options& options) {
  if (ranks == 0 || ranks > ranks_max || rank >= ranks)
    return fail(errc::invalid_argument, "rank " + std::to_string(rank) + " of " + std::to_string(ranks) +
                                            "; a group has 1 to " + std::to_string(ranks_max) + " ranks");
  const std::size_t piece = options.group.piece_bytes;
  if (piece < sizeof(float) || piece % sizeof(float) != 0 || piece > (std::size_t{1} << 30))
    return fail(errc::invalid_argument,
                "a group's pieces have 4 bytes to 1 GiB, in steps of 4, not " + std::to_string(piece));
  return {};
}

}  // namespace

result<void> find_nccl(int device) {
  return need_device(device);
}

result<std::string> make_nccl_group_id() {
  if (auto found = need_device(0); !found) return tl::unexpected(found.error());
  ncclUniqueId id;
  if (const auto status = ncclGetUniqueId(&id); status != ncclSuccess)
    return fail(errc::internal,
                std::string("making the id of a group: NCCL says ") + ncclGetErrorString(status));
  return std::string(magic) + std::string(id.internal, sizeof id.internal);
}

result<std::unique_ptr<device_communicator>> join_nccl_group(const std::string& id, unsigned rank,
                                                             unsigned ranks,
                                                             const nccl_group_options& options) {
  if (auto good = check_group(rank, ranks, options); !good) return tl::unexpected(good.error());
  const auto unique = id_from(id);
  if (!unique) return tl::unexpected(unique.error());
  if (auto found = need_device(options.device); !found) return tl::unexpected(found.error());
  if (auto chosen = check(cudaSetDevice(options.device), "choosing the device of a group"); !chosen)
    return tl::unexpected(chosen.error());
  const auto deadline = std::chrono::steady_clock::now() + options.join_timeout;
  auto connection = nccl_connection::join(*unique, rank, ranks, deadline, options.stop);
  if (!connection) return tl::unexpected(connection.error());
  return nccl_communicator::make(std::move(*connection), rank, ranks, options);
}

}  // namespace weft::collective
