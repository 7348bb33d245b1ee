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
    rank_list joined(ranks);
    std::vector<std::string> errors(ranks);
    std::vector<std::thread> threads;
    for (unsigned rank = 0; rank < ranks; ++rank)
      threads.emplace_back([&, rank] {
        auto here = join_nccl_group(*id, rank, ranks, {.group = options, .device = static_cast<int>(rank)});
        if (here)
          joined[rank] = std::move(*here);
        else
          errors[rank] = to_string(here.error());
      });
    for (auto& thread : threads)
      thread.join();
    for (const auto& text : errors)
      REQUIRE_MESSAGE(text.empty(), text);
    return joined;
  }
};

}  // namespace weft::collective::testing
