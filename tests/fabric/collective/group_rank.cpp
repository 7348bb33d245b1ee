// A rank of a group that sums for as long as the group lasts, then waits for the next one.
//
//   group_rank <transports> <timeout in ms> <values>
//
// Says its address in hexadecimal, reads "<rank> <addresses by rank>", and says why the group ended; and
// again with a new address, until its input ends.
#include <weft/fabric/ucx_group.hpp>

#include "../hexadecimal.hpp"

#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

weft::result<void> sum_until_it_ends(weft::fabric::ucx_group_seat seat, const std::string& line,
                                     std::size_t count) {
  std::istringstream words(line);
  unsigned rank = 0;
  words >> rank;
  std::vector<std::string> addresses;
  for (std::string word; words >> word;)
    addresses.push_back(weft::testing::from_hexadecimal(word));
  auto group = std::move(seat).join(rank, addresses);
  if (!group) return tl::unexpected(group.error());
  std::vector<float> values(count);
  while (true) {
    values.assign(count, static_cast<float>(rank + 1));
    if (auto summed = (*group)->all_reduce(values); !summed) return summed;
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  weft::fabric::ucx_group_options options;
  options.transports = argv[1];
  options.group.timeout = std::chrono::milliseconds{std::atoi(argv[2])};
  while (true) {
    auto seat = weft::fabric::ucx_group_seat::open(options);
    if (!seat) {
      std::cerr << to_string(seat.error()) << '\n';
      return 1;
    }
    std::cout << weft::testing::to_hexadecimal(seat->address()) << std::endl;
    std::string line;
    if (!std::getline(std::cin, line)) return 0;
    const auto ended = sum_until_it_ends(std::move(*seat), line, std::strtoull(argv[3], nullptr, 10));
    std::cout << name_of(ended.error().code) << std::endl;
  }
}
