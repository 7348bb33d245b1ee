#include <weft/collective/nccl_group.hpp>

namespace weft::collective {

namespace {

tl::unexpected<error> absent() {
  return fail(errc::unsupported,
              "this weft was built without NCCL; make the group over UCX, or build with `scripts/build cuda` "
              "where CUDA and NCCL are");
}

}  // namespace

result<void> find_nccl(int) {
  return absent();
}

result<std::string> make_nccl_group_id() {
  return absent();
}

result<std::unique_ptr<device_communicator>> join_nccl_group(const std::string&, unsigned, unsigned,
                                                             const nccl_group_options&) {
  return absent();
}

}  // namespace weft::collective
