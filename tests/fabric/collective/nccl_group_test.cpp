// A group whose ranks are threads with a device each, over NCCL: what every group does, but for what NCCL
// cannot notice (sizes that differ).
#include "contract.hpp"
#include "nccl_groups.hpp"
#include "stream_sums.hpp"
#include <cuda_runtime_api.h>

#include <algorithm>

using namespace weft::collective;
using namespace weft::collective::testing;

namespace {

unsigned ranks_here() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices >= 2)
    return std::min(static_cast<unsigned>(devices), 4U);
  MESSAGE("no two CUDA devices: skipped");
  return 0;
}

}  // namespace

TEST_CASE("sums, broadcasts and gathers over NCCL are those of any group") {
  const unsigned most = ranks_here();
  for (unsigned ranks = 2; ranks <= most; ++ranks) {
    CAPTURE(ranks);
    check_sums<nccl_groups>(ranks);
    check_broadcasts_and_gathers<nccl_groups>(ranks);
  }
}

TEST_CASE("a rank that never comes costs the timeout, and the others make a group without it") {
  const unsigned ranks = ranks_here();
  if (ranks == 0) return;
  auto group = nccl_groups::make(ranks, {.timeout = std::chrono::seconds{2}});
  const auto absent = std::move(group.back());
  std::atomic<int> wrong = 0;
  on_all(group, [&](communicator& here) {
    std::vector<float> values(100, 1.0F);
    const auto late = here.all_reduce(values);
    if (late || here.barrier()) ++wrong;
  });
  CHECK(wrong == 0);
  if (ranks > 2) check_sums<nccl_groups>(ranks - 1);
}

TEST_CASE("sums behind streams over NCCL are those of any group, as they come and recorded") {
  const unsigned most = ranks_here();
  for (unsigned ranks = 2; ranks <= most; ++ranks) {
    CAPTURE(ranks);
    check_sums_behind_streams(ranks);
    check_many_sums_behind_streams(ranks);
  }
}

TEST_CASE("streams do not wait for a rank that NCCL lost, nor does who has recordings") {
  const unsigned ranks = ranks_here();
  if (ranks == 0) return;
  for (const bool record : {false, true})
    check_lost_behind_streams(ranks, record);
  check_leaving_with_recordings();
}
