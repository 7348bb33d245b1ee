#include <weft/kernels/thread_pool.hpp>

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace weft::kernels {

namespace {

constexpr std::size_t destructive_bytes = 64;

// Long enough to bridge the serial parts of a decode step, short enough that an idle process sleeps.
constexpr int spins_before_sleep = 4000;

void pause_cpu() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

unsigned usable_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) {
    return std::max(1U, static_cast<unsigned>(CPU_COUNT(&set)));
  }
  return std::max(1U, std::thread::hardware_concurrency());
}

// Where a task beside the regions is.
enum class beside : std::uint8_t { nothing, offered, begun, done };

}  // namespace

// A region is open while its number is in `open`. A worker registers in `active` before it looks at `open`,
// and the caller closes the region before it looks at `active`; with sequentially consistent order one of the
// two always sees the other. So the caller waits only for workers that took part, never for one that the
// scheduler has not woken yet.
//
// A task beside the regions is done by whoever brings it from `offered` to `begun`, a worker or the caller.
struct thread_pool::state {
  alignas(destructive_bytes) std::atomic<std::uint32_t> announced{0};  // number of the latest region
  std::atomic<bool> stopping{false};
  std::atomic<unsigned> sleeping{0};
  alignas(destructive_bytes) std::atomic<std::uint32_t> open{0};
  alignas(destructive_bytes) std::atomic<unsigned> active{0};
  alignas(destructive_bytes) std::atomic<std::size_t> next{0};
  std::size_t count = 0;
  task_function task = nullptr;
  void* context = nullptr;
  alignas(destructive_bytes) std::atomic<beside> beside_regions{beside::nothing};
  void (*beside_task)(void*) = nullptr;
  void* beside_context = nullptr;
  std::vector<workspace> scratch;
  std::vector<std::thread> workers;

  void work(unsigned worker) {
    for (std::size_t index = next.fetch_add(1, std::memory_order_relaxed); index < count;
         index = next.fetch_add(1, std::memory_order_relaxed)) {
      task(context, index, worker);
    }
  }

  // Whether this thread was the one to do it.
  bool do_beside() {
    beside expected = beside::offered;
    if (!beside_regions.compare_exchange_strong(expected, beside::begun)) return false;
    beside_task(beside_context);
    beside_regions.store(beside::done);
    return true;
  }

  void take_part(unsigned worker) {
    active.fetch_add(1);
    if (open.load() != 0) work(worker);
    active.fetch_sub(1);
  }

  std::uint32_t wait_for_region_after(std::uint32_t seen) {
    for (int spin = 0; spin < spins_before_sleep; ++spin) {
      const std::uint32_t latest = announced.load(std::memory_order_acquire);
      if (latest != seen) return latest;
      pause_cpu();
    }
    sleeping.fetch_add(1);
    announced.wait(seen);
    sleeping.fetch_sub(1);
    return announced.load(std::memory_order_acquire);
  }

  void worker_loop(unsigned worker) {
    std::uint32_t seen = 0;
    while (true) {
      seen = wait_for_region_after(seen);
      if (stopping.load()) return;
      if (beside_regions.load(std::memory_order_relaxed) == beside::offered) do_beside();
      take_part(worker);
    }
  }

  void announce() {
    announced.fetch_add(1);
    if (sleeping.load() != 0) announced.notify_all();
  }
};

thread_pool::thread_pool(unsigned threads) : state_(std::make_unique<state>()) {
  const unsigned wanted = threads == 0 ? usable_cpus() : threads;
  state_->scratch.resize(wanted);
  for (unsigned worker = 1; worker < wanted; ++worker) {
    state_->workers.emplace_back([shared = state_.get(), worker] { shared->worker_loop(worker); });
  }
}

thread_pool::~thread_pool() {
  state_->stopping.store(true);
  state_->announce();
  for (std::thread& worker : state_->workers)
    worker.join();
}

unsigned thread_pool::threads() const {
  return static_cast<unsigned>(state_->workers.size()) + 1;
}

workspace& thread_pool::scratch(unsigned worker) {
  return state_->scratch[worker];
}

void thread_pool::run(std::size_t count, task_function task, void* context) {
  if (state_->workers.empty() || count <= 1) {
    for (std::size_t index = 0; index < count; ++index)
      task(context, index, 0);
    return;
  }
  state_->count = count;
  state_->task = task;
  state_->context = context;
  state_->next.store(0, std::memory_order_relaxed);
  state_->open.store(1);
  state_->announce();
  state_->work(0);
  state_->open.store(0);
  while (state_->active.load() != 0)
    pause_cpu();
}

bool thread_pool::give_away(void (*task)(void*), void* context) {
  if (state_->workers.empty() || state_->beside_regions.load() != beside::nothing) {
    task(context);
    return false;
  }
  state_->beside_task = task;
  state_->beside_context = context;
  state_->beside_regions.store(beside::offered);
  state_->announce();
  return true;
}

void thread_pool::wake() {
  state_->announce();
}

void thread_pool::finish_beside() {
  if (!state_->do_beside())
    while (state_->beside_regions.load() != beside::done)
      pause_cpu();
  state_->beside_regions.store(beside::nothing);
}

}  // namespace weft::kernels
