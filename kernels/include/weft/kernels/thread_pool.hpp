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

  // Has `task()` called once, by a worker, while the caller goes on and opens regions, which wait for that
  // worker no more than for one that sleeps. False: it was called here, since there is no worker or another
  // task is with one. True: `finish_beside` must be called before the next one is given away, and until then
  // the task stays where it is. Such a task opens no regions and uses no scratch memory of this pool.
  template <class Task>
  bool begin_beside(Task& task) {
    return give_away([](void* context) { (*static_cast<Task*>(context))(); }, &task);
  }
  // Returns when the task has been called; calls it where no worker has begun.
  void finish_beside();

  // Regions will follow within a moment: workers that sleep wake up beside what the caller does until then.
  void wake();

 private:
  using task_function = void (*)(void* context, std::size_t index, unsigned worker);
  void run(std::size_t count, task_function task, void* context);
  bool give_away(void (*task)(void*), void* context);

  struct state;
  std::unique_ptr<state> state_;
};

}  // namespace weft::kernels
