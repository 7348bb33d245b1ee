// A group whose ranks also sum in the memory of their devices.
//
// Messages, blocks and logits lie on the host and go on as in the group that there is; only
// `all_reduce_behind` goes over NCCL. So everything that needs no device needs no NCCL either.
#pragma once

#include <weft/base/error.hpp>
#include <weft/collective/communicator.hpp>
#include <weft/collective/nccl_group.hpp>

#include <memory>
#include <optional>

namespace weft::collective {

struct device_sums_options {
  std::optional<int> device;                         // CUDA's number; none: this rank computes on its CPU
  duration timeout = std::chrono::seconds{10};       // of one sum
  duration join_timeout = std::chrono::seconds{30};  // until all ranks have met over NCCL
};

struct grown_group {
  std::unique_ptr<communicator> group;
  result<void> summing;  // why the ranks do not sum on their devices, if so: they do it over the host then
};

// All ranks of `group` call it: with NCCL where each of them has a CUDA device and a weft that was built with
// NCCL, and all have met; else the group is what it was. A rank that NCCL, or `group`, finds lost ends both.
// Errors are those of `group`.
result<grown_group> with_device_sums(std::unique_ptr<communicator> group, const device_sums_options& options);

}  // namespace weft::collective
