// What a group over NCCL refuses before it needs a device, and that it says so where there is none.
#include <weft/collective/nccl_group.hpp>

#include <doctest/doctest.h>

#include <cuda_runtime_api.h>

#include <string>

using namespace weft;
using namespace weft::collective;

namespace {

const std::string some_id = "WFN1" + std::string(128, 'x');

errc refusal(const std::string& id, unsigned rank, unsigned ranks, const nccl_group_options& options = {}) {
  const auto joined = join_nccl_group(id, rank, ranks, options);
  REQUIRE_FALSE(joined);
  return joined.error().code;
}

}  // namespace

TEST_CASE("an id, a rank, a size or a piece that cannot be one is refused") {
  CHECK(refusal("", 0, 2) == errc::invalid_argument);
  CHECK(refusal("WFG1" + std::string(128, 'x'), 0, 2) == errc::invalid_argument);
  CHECK(refusal(some_id + "x", 0, 2) == errc::invalid_argument);
  CHECK(refusal(some_id, 2, 2) == errc::invalid_argument);
  CHECK(refusal(some_id, 0, 0) == errc::invalid_argument);
  CHECK(refusal(some_id, 0, ranks_max + 1) == errc::invalid_argument);
  CHECK(refusal(some_id, 0, 2, {.group = {.piece_bytes = 0}}) == errc::invalid_argument);
  CHECK(refusal(some_id, 0, 2, {.group = {.piece_bytes = 1001}}) == errc::invalid_argument);
}

TEST_CASE("without a device, or without this one, a group says so") {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess) devices = 0;
  CHECK(refusal(some_id, 0, 2, {.device = devices}) == errc::unsupported);
  CHECK(refusal(some_id, 0, 2, {.device = -1}) == errc::unsupported);
  if (devices > 0) return;
  const auto id = make_nccl_group_id();
  REQUIRE_FALSE(id);
  CHECK(id.error().code == errc::unsupported);
  CHECK(id.error().context.find("CUDA device") != std::string::npos);
}
