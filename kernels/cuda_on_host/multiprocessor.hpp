// Runs the threads of one block after another: every thread until it ends or has to wait, then any one that
// need not.
#pragma once

#include "cuda_on_host/block_memory.hpp"
#include "cuda_on_host/fiber.hpp"
#include "cuda_on_host/place.hpp"
#include "cuda_on_host/together.hpp"
#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

namespace weft::kernels::cuda_on_host {

// What all blocks of a launch have in common. ThreadSanitizer's clocks are addresses.
struct launch {
  dim3 blocks;
  std::uint32_t threads = 0;
  std::size_t shared_bytes = 0;
  void (*run)(const void*) = nullptr;
  const void* arguments = nullptr;
  std::uint64_t begun = 0;  // what the host did before
  std::uint64_t ended = 0;  // what all threads did
};

// Threads of different multiprocessors are in no order for ThreadSanitizer, so that it sees what blocks do to
// each other; those of blocks that one multiprocessor runs are, as they have the same memory.
class multiprocessor {
 public:
  // The one whose block runs; `std::logic_error` for who is no thread of a launch.
  static multiprocessor& running();

  // Before a launch of so many threads to a block.
  void prepare(std::uint32_t threads);
  // Empty, or why the block was given up.
  std::string run(launch& of, const uint3& block, std::uint64_t seed);

  // What the running thread calls, as together.hpp and block_variables.hpp have it.
  int wait_for_block(const char* what, int value, const source_place& at);
  void meet(const char* what, std::uint32_t mask, const std::uint64_t* brought, std::uint64_t* given,
            void (*work)(const lane_words&), const source_place& at);
  void wait_for_lanes(std::uint32_t mask, const source_place& at);
  block_memory_pool& memory() { return memory_; }
  template <class... Parts>
  [[noreturn]] void give_up(const Parts&... why) {
    // Nothing that has to be destroyed may be on this fiber's stack: nobody comes back to it.
    write_report([&](std::ostream& to) { (to << ... << why); });
    leave();
  }

 private:
  enum class standing : std::uint8_t { ready, waits_for_lanes, waits_for_block, ended };
  struct thread {
    standing now = standing::ready;
    const char* what = nullptr;
    source_place at;
    std::uint32_t mask = 0;
    int value = 0;  // brought to, or got from, a barrier
    const std::uint64_t* brought = nullptr;
    std::uint64_t* given = nullptr;
  };

  struct warp {
    std::uint32_t alive = 0;    // lanes that have not ended
    std::uint32_t waiting = 0;  // lanes that wait for lanes
    std::uint64_t clock = 0;    // ThreadSanitizer's
  };

  static void run_threads();
  void end_thread();
  void make_ready(std::uint32_t index);
  void go_on();
  void go_on_with(std::uint32_t index);
  void pass_barrier();
  void check_lanes_can_come(std::uint32_t own);
  bool all_at_one_place(std::uint32_t own);
  void check_nobody_waits_for(std::uint32_t index);
  void meet_hidden(const thread& self, void (*work)(const lane_words&));
  void check_mask(std::uint32_t own);
  void write_report(const std::function<void(std::ostream&)>& why);
  [[noreturn]] void leave();
  void write_waiting(std::ostream& to) const;
  friend std::ostream& operator<<(std::ostream& to, const multiprocessor& of) {
    of.write_waiting(to);
    return to;
  }

  fiber host_;
  std::vector<std::unique_ptr<fiber>> fibers_;
  std::vector<thread> threads_;
  std::vector<warp> warps_;
  block_memory_pool memory_;
  launch* launch_ = nullptr;
  std::vector<std::uint32_t> ready_;
  std::uint32_t current_ = 0;
  std::uint32_t left_ = 0;        // threads that have not ended
  std::uint32_t at_barrier_ = 0;  // of them
  std::uint64_t random_ = 1;
  std::string given_up_;
  // ThreadSanitizer's: a fast thread may come to the next barrier while a slow one leaves this one.
  std::uint32_t barriers_ = 0;
  std::uint64_t barrier_clocks_[2] = {};
  std::uint32_t blocks_ = 0;
  std::uint64_t block_clocks_[2] = {};
};

}  // namespace weft::kernels::cuda_on_host
