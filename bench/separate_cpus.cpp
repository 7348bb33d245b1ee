#include "separate_cpus.hpp"

#include <sched.h>

#include <span>
#include <string>
#include <utility>

namespace weft::bench {

namespace {

// Advice: where it is refused, all threads share all CPUs.
void take(std::span<const int> cpus) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus)
    CPU_SET(cpu, &set);
  if (!cpus.empty()) (void)::sched_setaffinity(0, sizeof set, &set);
}

}  // namespace

result<separate_cpus> separate_cpus::of_this_process(unsigned computing) {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> all;
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &set)) all.push_back(cpu);
  if (all.size() < 2 || computing >= all.size())
    return fail(errc::invalid_argument, std::to_string(computing) +
                                            " computing threads leave transfers none of " +
                                            std::to_string(all.size()) + " CPUs; give fewer --threads");
  return separate_cpus(all, computing == 0 ? static_cast<unsigned>(all.size() - 1) : computing);
}

separate_cpus::separate_cpus(separate_cpus&& other) noexcept
    : all_(std::exchange(other.all_, {})), computing_(other.computing_) {}

separate_cpus& separate_cpus::operator=(separate_cpus&& other) noexcept {
  std::swap(all_, other.all_);
  std::swap(computing_, other.computing_);
  return *this;
}

separate_cpus::~separate_cpus() {
  take(all_);
}

void separate_cpus::take_those_of_transfers() const {
  take(std::span(all_).subspan(computing_));
}

void separate_cpus::take_those_of_computing() const {
  take(std::span(all_).first(computing_));
}

}  // namespace weft::bench
