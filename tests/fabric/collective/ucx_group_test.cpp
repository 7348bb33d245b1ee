#include <weft/fabric/ucx_group.hpp>

#include "../hexadecimal.hpp"
#include "../line_process.hpp"
#include "contract.hpp"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using weft::errc;
using weft::fabric::ucx_group_options;
using weft::fabric::ucx_group_seat;
using weft::testing::from_hexadecimal;
using weft::testing::line_process;
using weft::testing::to_hexadecimal;

namespace {

// Ranks 1, 2, ... in processes of their own that sum for as long as the group lasts; rank 0 is the test.
class group_of_processes {
 public:
  group_of_processes(unsigned ranks, const std::string& transports, std::chrono::milliseconds timeout,
                     std::size_t values)
      : options_{.group = {.timeout = timeout}, .transports = transports}, values_(values) {
    for (unsigned rank = 1; rank < ranks; ++rank)
      others_.push_back(std::make_unique<line_process>(std::vector<std::string>{
          WEFT_GROUP_RANK, transports, std::to_string(timeout.count()), std::to_string(values)}));
  }

  std::unique_ptr<weft::collective::communicator> join() {
    auto seat = ucx_group_seat::open(options_);
    REQUIRE(seat);
    std::vector<std::string> addresses{seat->address()};
    for (const auto& other : others_)
      addresses.push_back(from_hexadecimal(other->read_line()));
    std::string list;
    for (const auto& address : addresses)
      list += ' ' + to_hexadecimal(address);
    for (std::size_t i = 0; i < others_.size(); ++i)
      others_[i]->write_line(std::to_string(i + 1) + list);
    auto group = std::move(*seat).join(0, addresses);
    REQUIRE_MESSAGE(group.has_value(), (group ? "" : to_string(group.error())));
    return std::move(*group);
  }

  weft::result<void> sum(weft::collective::communicator& group) const {
    std::vector<float> values(values_, 1.0F);
    auto summed = group.all_reduce(values);
    if (summed) {
      const auto expected = static_cast<float>(group.size() * (group.size() + 1) / 2);
      CHECK(std::ranges::count(values, expected) == static_cast<std::ptrdiff_t>(values_));
    }
    return summed;
  }

  weft::result<void> sum_until_it_ends(weft::collective::communicator& group) const {
    while (true)
      if (auto summed = sum(group); !summed) return summed;
  }

  std::vector<std::unique_ptr<line_process>>& others() { return others_; }

 private:
  ucx_group_options options_;
  std::size_t values_;
  std::vector<std::unique_ptr<line_process>> others_;
};

void check_killed_rank(const std::string& transports, std::size_t values) {
  group_of_processes processes(4, transports, 20s, values);
  {
    auto group = processes.join();
    for (int round = 0; round < 20; ++round)
      REQUIRE(processes.sum(*group));
    processes.others().back()->kill();
    const auto lost = processes.sum_until_it_ends(*group);
    // At once where the transport sees it, and within the timeout in any case.
    CHECK((lost.error().code == errc::unreachable || lost.error().code == errc::deadline_exceeded));
  }
  processes.others().pop_back();
  for (const auto& other : processes.others()) {
    const std::string reason = other->read_line();
    CHECK((reason == "unreachable" || reason == "deadline_exceeded"));
  }
  // Who is left makes a new group.
  {
    auto group = processes.join();
    CHECK(group->size() == 3);
    for (int round = 0; round < 20; ++round)
      REQUIRE(processes.sum(*group));
  }
  for (const auto& other : processes.others())
    CHECK(other->read_line() == "unreachable");
}

}  // namespace

TEST_CASE("a group over tcp does what a group does") {
  weft::collective::testing::check_group_contract<weft::collective::testing::tcp_groups>();
}

TEST_CASE("a group over shared memory does what a group does") {
  weft::collective::testing::check_group_contract<weft::collective::testing::shared_memory_groups>();
}

TEST_CASE("a killed process is an error for the others, who go on without it: shared memory") {
  check_killed_rank("shm", 2000);
  check_killed_rank("shm", 300'000);
}

TEST_CASE("a killed process is an error for the others, who go on without it: tcp") {
  check_killed_rank("tcp", 2000);
  check_killed_rank("tcp", 300'000);
}

TEST_CASE("a frozen process costs the timeout") {
  group_of_processes processes(2, "shm", 500ms, 100'000);
  {
    auto group = processes.join();
    REQUIRE(processes.sum(*group));
    processes.others().front()->freeze();
    const auto late = processes.sum_until_it_ends(*group);
    CHECK(late.error().code == errc::deadline_exceeded);
  }
  processes.others().front()->thaw();
  const std::string reason = processes.others().front()->read_line();
  CHECK((reason == "unreachable" || reason == "deadline_exceeded"));
}

TEST_CASE("a list that is not the group's is refused") {
  auto seat = ucx_group_seat::open({.transports = "tcp"});
  REQUIRE(seat);
  const std::string own = seat->address();
  std::vector<std::string> lists[] = {{}, {"nonsense"}, {own, own}, {own, own.substr(0, 10)}};
  for (const auto& list : lists) {
    auto again = ucx_group_seat::open({.transports = "tcp"});
    REQUIRE(again);
    const auto refused = std::move(*again).join(0, list);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().code == errc::invalid_argument);
  }
  const auto twice = std::move(*seat).join(0, lists[2]);
  REQUIRE_FALSE(twice);
  CHECK(twice.error().code == errc::invalid_argument);
}
