// Groups over NCCL whose ranks are threads of the test, a device for each.
#pragma once

#include <weft/collective/nccl_group.hpp>

#include <doctest/doctest.h>

#include "group_in_threads.hpp"

namespace weft::collective::testing {

struct nccl_groups {
  static rank_list make(unsigned ranks, const group_options& options) {
    const auto id = make_nccl_group_id();
    REQUIRE_MESSAGE(id.has_value(), (id ? "" : to_string(id.error())));
    return join_in_threads(ranks, [&](unsigned rank) {
      return join_nccl_group(*id, rank, ranks, {.group = options, .device = static_cast<int>(rank)});
    });
  }
};

}  // namespace weft::collective::testing
