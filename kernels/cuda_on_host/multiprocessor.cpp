#include "cuda_on_host/multiprocessor.hpp"

#include "cuda_on_host/place.hpp"
#include "cuda_on_host/sanitizers.hpp"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <sstream>
#include <stdexcept>
#include <string_view>

// Of the thread that runs.
uint3 threadIdx{};
uint3 blockIdx{};
dim3 blockDim{};
dim3 gridDim{};

namespace weft::kernels::cuda_on_host {

namespace {

multiprocessor* running_one = nullptr;

std::uint64_t next_random(std::uint64_t& state) {
  state += 0x9E3779B97F4A7C15U;
  std::uint64_t x = state;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9U;
  x = (x ^ x >> 27) * 0x94D049BB133111EBU;
  return x ^ x >> 31;
}

// Parts of a report.
struct lanes {
  std::uint32_t mask;
  friend std::ostream& operator<<(std::ostream& to, const lanes& of) {
    return to << "lanes 0x" << std::hex << of.mask << std::dec;
  }
};
struct lane {
  std::uint32_t index;
  friend std::ostream& operator<<(std::ostream& to, const lane& of) {
    return to << "lane " << of.index % warp_lanes << " of warp " << of.index / warp_lanes;
  }
};
struct place {
  const char* what;
  const source_place& at;
  friend std::ostream& operator<<(std::ostream& to, const place& of) {
    std::string_view file = of.at.file;
    if (const auto slash = file.rfind('/'); slash != file.npos) file.remove_prefix(slash + 1);
    return to << of.what << " (" << file << ":" << of.at.line << ")";
  }
};

}  // namespace

multiprocessor& multiprocessor::running() {
  if (running_one == nullptr)
    throw std::logic_error("only threads of a launch wait for each other and have a block's memory");
  return *running_one;
}

void multiprocessor::prepare(std::uint32_t threads) {
  while (fibers_.size() < threads)
    fibers_.push_back(std::make_unique<fiber>(&multiprocessor::run_threads));
  warps_.resize((fibers_.size() + warp_lanes - 1) / warp_lanes);
}

std::string multiprocessor::run(launch& of, const uint3& block, std::uint64_t seed) {
  launch_ = &of;
  random_ = seed;
  given_up_.clear();
  memory_.begin(of.shared_bytes);
  threads_.assign(of.threads, {});
  ready_.clear();
  for (warp& each : warps_)
    each = {};
  for (std::uint32_t i = 0; i < of.threads; ++i) {
    ready_.push_back(i);
    warps_[i / warp_lanes].alive |= 1U << i % warp_lanes;
  }
  left_ = of.threads;
  at_barrier_ = 0;
  blockIdx = block;
  blockDim = dim3(of.threads);
  gridDim = of.blocks;
  running_one = this;
  // From the host on: the first thread has nobody to wait for.
  current_ = ready_[next_random(random_) % ready_.size()];
  std::swap(ready_[current_], ready_.back());
  ready_.pop_back();
  threadIdx = {current_, 0, 0};
  host_.hand_over_to(*fibers_[current_]);
  running_one = nullptr;
  ++blocks_;
  // Threads that were given up stay where they are: others take their places.
  if (!given_up_.empty()) fibers_.clear();
  return given_up_;
}

// What every fiber does, for one thread of the same number after the other.
void multiprocessor::run_threads() {
  hide();
  for (;;) {
    multiprocessor& own = *running_one;
    launch& of = *own.launch_;
    acquire(&of.begun);
    acquire(&own.block_clocks_[own.blocks_ % 2]);
    show();
    of.run(of.arguments);
    hide();
    release(&own.block_clocks_[(own.blocks_ + 1) % 2]);
    release(&of.ended);
    own.end_thread();
  }
}

void multiprocessor::end_thread() {
  threads_[current_].now = standing::ended;
  --left_;
  warps_[current_ / warp_lanes].alive &= ~(1U << current_ % warp_lanes);
  check_nobody_waits_for(current_);
  if (left_ == 0) {
    fibers_[current_]->hand_over_to(host_);
    return;
  }
  if (at_barrier_ == left_) pass_barrier();
  go_on();
}

void multiprocessor::make_ready(std::uint32_t index) {
  threads_[index].now = standing::ready;
  ready_.push_back(index);
}

// With any thread that can, which may be this one.
void multiprocessor::go_on() {
  if (ready_.empty()) give_up("nobody can go on:", *this);
  const std::size_t drawn = next_random(random_) % ready_.size();
  const std::uint32_t index = ready_[drawn];
  ready_[drawn] = ready_.back();
  ready_.pop_back();
  go_on_with(index);
}

void multiprocessor::go_on_with(std::uint32_t index) {
  if (index == current_ && threads_[index].now != standing::ended) return;
  fiber& own = *fibers_[current_];
  current_ = index;
  threadIdx = {index, 0, 0};
  own.hand_over_to(*fibers_[index]);
}

void multiprocessor::write_report(const std::function<void(std::ostream&)>& why) {
  std::ostringstream report;
  report << lane{current_} << ": ";
  why(report);
  given_up_ = report.str();
}

void multiprocessor::leave() {
  fibers_[current_]->hand_over_to(host_);
  std::abort();  // nobody hands over to it again
}

int multiprocessor::wait_for_block(const char* what, int value, const source_place& at) {
  const hidden from_sanitizers;
  thread& self = threads_[current_];
  self = {standing::waits_for_block, what, at, 0, value, nullptr, nullptr};
  ++at_barrier_;
  std::uint64_t& clock = barrier_clocks_[barriers_ % 2];
  release(&clock);
  if (at_barrier_ == left_) pass_barrier();
  go_on();
  acquire(&clock);
  return self.value;
}

void multiprocessor::pass_barrier() {
  const thread* first = nullptr;
  int any = 0;
  for (const thread& each : threads_) {
    if (each.now != standing::waits_for_block) continue;
    if (first == nullptr) first = &each;
    if (!(first->at == each.at)) give_up("threads wait at different barriers:", *this);
    any |= each.value != 0 ? 1 : 0;
  }
  at_barrier_ = 0;
  ++barriers_;
  for (std::uint32_t i = 0; i < threads_.size(); ++i) {
    if (threads_[i].now != standing::waits_for_block) continue;
    threads_[i].value = any;
    make_ready(i);
  }
}

void multiprocessor::wait_for_lanes(std::uint32_t mask, const source_place& at) {
  const hidden from_sanitizers;
  std::uint64_t& clock = warps_[current_ / warp_lanes].clock;
  release(&clock);
  meet_hidden({standing::waits_for_lanes, "__syncwarp", at, mask, 0, nullptr, nullptr}, nullptr);
  acquire(&clock);
}

void multiprocessor::meet(const char* what, std::uint32_t mask, const std::uint64_t* brought,
                          std::uint64_t* given, void (*work)(const lane_words&), const source_place& at) {
  const hidden from_sanitizers;
  meet_hidden({standing::waits_for_lanes, what, at, mask, 0, brought, given}, work);
}

void multiprocessor::meet_hidden(const thread& self, void (*work)(const lane_words&)) {
  const std::uint32_t own = current_;
  warp& together = warps_[own / warp_lanes];
  const std::uint32_t mask = self.mask;
  threads_[own] = self;
  check_mask(own);
  together.waiting |= 1U << own % warp_lanes;
  if ((mask & ~together.waiting) == 0 && all_at_one_place(own)) {
    const std::uint32_t first = own / warp_lanes * warp_lanes;
    together.waiting &= ~mask;
    lane_words words;
    for (std::uint32_t rest = mask; rest != 0; rest &= rest - 1) {
      const auto lane = static_cast<std::uint32_t>(std::countr_zero(rest));
      words.brought[lane] = threads_[first + lane].brought;
      words.given[lane] = threads_[first + lane].given;
      make_ready(first + lane);
    }
    if (work != nullptr) work(words);
  }
  go_on();
}

void multiprocessor::check_mask(std::uint32_t own) {
  const thread& self = threads_[own];
  if ((self.mask >> own % warp_lanes & 1U) == 0)
    give_up("it waits in ", place{self.what, self.at}, " for ", lanes{self.mask}, ", and is none of them");
  const std::uint32_t never = self.mask & ~warps_[own / warp_lanes].alive;
  if (never != 0)
    give_up("it waits in ", place{self.what, self.at}, " for ", lanes{never},
            ", which have ended or are none of the block");
}

// Of lanes that all wait for lanes: whether they wait for each other. They never will where one waits for
// this one elsewhere.
bool multiprocessor::all_at_one_place(std::uint32_t own) {
  const thread& self = threads_[own];
  const std::uint32_t first = own / warp_lanes * warp_lanes;
  bool all = true;
  for (std::uint32_t rest = self.mask; rest != 0; rest &= rest - 1) {
    const thread& other = threads_[first + static_cast<std::uint32_t>(std::countr_zero(rest))];
    const bool together = other.mask == self.mask && other.at == self.at;
    if (!together && (other.mask >> own % warp_lanes & 1U) != 0)
      give_up("lanes wait for each other at different places:", *this);
    all = all && together;
  }
  return all;
}

void multiprocessor::check_nobody_waits_for(std::uint32_t index) {
  const std::uint32_t first = index / warp_lanes * warp_lanes;
  for (std::uint32_t i = first; i < first + warp_lanes && i < threads_.size(); ++i) {
    const thread& other = threads_[i];
    if (other.now == standing::waits_for_lanes && (other.mask >> index % warp_lanes & 1U) != 0)
      give_up("it has ended, and ", lane{i}, " waits for it in ", place{other.what, other.at});
  }
}

void multiprocessor::write_waiting(std::ostream& to) const {
  constexpr int most_told = 8;
  int told = 0;
  for (std::uint32_t first = 0; first < threads_.size(); first += warp_lanes) {
    const std::uint32_t end = std::min<std::uint32_t>(first + warp_lanes, threads_.size());
    std::uint32_t done = 0;
    for (std::uint32_t i = first; i < end; ++i) {
      const thread& each = threads_[i];
      const bool waits = each.now == standing::waits_for_block || each.now == standing::waits_for_lanes;
      if (!waits || (done >> (i - first) & 1U) != 0) continue;
      std::uint32_t with = 0;
      for (std::uint32_t j = i; j < end; ++j)
        if (threads_[j].now == each.now && threads_[j].mask == each.mask && threads_[j].at == each.at)
          with |= 1U << (j - first);
      done |= with;
      if (++told > most_told) continue;
      to << " " << lanes{with} << " of warp " << first / warp_lanes << " wait in "
         << place{each.what, each.at};
      if (each.now == standing::waits_for_lanes) to << " for " << lanes{each.mask};
      to << ";";
    }
  }
  if (told > most_told) to << " and others;";
  to << " " << threads_.size() - left_ << " threads have ended";
}

}  // namespace weft::kernels::cuda_on_host
