// Groups whose ranks are threads of the test, over both ways of moving bytes.
#pragma once

#include <weft/collective/in_process.hpp>
#include <weft/fabric/ucx_group.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace weft::collective::testing {

using rank_list = std::vector<std::unique_ptr<communicator>>;

struct in_process_groups {
  static rank_list make(unsigned ranks, const group_options& options) {
    return make_in_process_group(ranks, options);
  }
};

// Every rank joins on a thread of its own, by join(rank).
template <class Join>
rank_list join_in_threads(unsigned ranks, Join join) {
  rank_list joined(ranks);
  std::vector<std::string> errors(ranks);
  std::vector<std::thread> threads;
  for (unsigned rank = 0; rank < ranks; ++rank)
    threads.emplace_back([&, rank] {
      auto here = join(rank);
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

inline rank_list make_ucx_group(unsigned ranks, const group_options& options, const std::string& transports) {
  std::vector<fabric::ucx_group_seat> seats;
  std::vector<std::string> addresses;
  for (unsigned rank = 0; rank < ranks; ++rank) {
    auto seat = fabric::ucx_group_seat::open({.group = options, .transports = transports});
    REQUIRE_MESSAGE(seat.has_value(), (seat ? "" : to_string(seat.error())));
    addresses.push_back(seat->address());
    seats.push_back(std::move(*seat));
  }
  return join_in_threads(ranks, [&](unsigned rank) { return std::move(seats[rank]).join(rank, addresses); });
}

struct tcp_groups {
  static rank_list make(unsigned ranks, const group_options& options) {
    return make_ucx_group(ranks, options, "tcp");
  }
};

struct shared_memory_groups {
  static rank_list make(unsigned ranks, const group_options& options) {
    return make_ucx_group(ranks, options, "shm");
  }
};

// What every rank does, on its own thread.
inline void on_all(rank_list& ranks, const std::function<void(communicator&)>& body) {
  std::vector<std::thread> threads;
  for (auto& rank : ranks)
    if (rank) threads.emplace_back([&body, &rank] { body(*rank); });
  for (auto& thread : threads)
    thread.join();
}

}  // namespace weft::collective::testing
