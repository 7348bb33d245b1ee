// The threads that kernels run on: a fixed crew for many short parallel regions.
//
// Workers spin for a moment after a region and sleep after that, so that the regions of a decode step follow
// each other within a microsecond and an idle process costs nothing. No region allocates.
#pragma once

#include <weft/kernels/aligned_buffer.hpp>

#include <cstddef>
#include <memory>
#include <type_traits>

namespace weft::kernels {

class thread_pool {
 public:
  // `threads` counts the calling thread; 0: one per CPU that this process may use.
  explicit thread_pool(unsigned threads = 0);
  ~thread_pool();
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;

  unsigned threads() const;

  // Memory of one worker, for its own tasks; grows to what was asked for and stays.
  workspace& scratch(unsigned worker);

  // Calls `task(index, worker)` for every index in [0, count), on all threads, the caller included; returns
  // when all are done. `worker` is in [0, threads()) and differs between tasks that run at the same time.
  // Indices are handed out in ascending order. One region at a time per pool, never from within a task; tasks
  // must not throw.
  template <class Task>
  void parallel_for(std::size_t count, Task&& task) {
    using callable = std::remove_reference_t<Task>;
    run(
        count,
        [](void* context, std::size_t index, unsigned worker) {
          (*static_cast<callable*>(context))(index, worker);
        },
        const_cast<void*>(static_cast<const void*>(std::addressof(task))));
  }

 private:
  using task_function = void (*)(void* context, std::size_t index, unsigned worker);
  void run(std::size_t count, task_function task, void* context);

  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::kernels
