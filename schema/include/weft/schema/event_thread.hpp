// A thread with a KJ event loop. Everything of KJ (promises, capabilities, connections) lives and dies on
// that thread; others hand it tasks.
#pragma once

#include <kj/async-io.h>
#include <kj/function.h>

#include <memory>

namespace weft::schema {

class event_thread {
 public:
  using task = kj::Function<void()>;

  // The way in, for any thread; may outlive the event thread.
  class mailbox {
   public:
    mailbox();  // throws std::system_error
    ~mailbox();
    mailbox(const mailbox&) = delete;
    mailbox& operator=(const mailbox&) = delete;

    // Runs `t` on the event thread, after all that was posted before it. Once the thread has stopped, `t` is
    // destroyed by the caller and false is returned. Exceptions of a task end with the task.
    bool post(task t);

   private:
    friend class event_thread;
    struct state;
    std::unique_ptr<state> state_;
  };

  event_thread();  // throws std::system_error or kj::Exception
  ~event_thread();
  event_thread(const event_thread&) = delete;
  event_thread& operator=(const event_thread&) = delete;

  const std::shared_ptr<mailbox>& tasks() const { return mailbox_; }

  // Runs `t` on the event thread and waits for it; its exceptions are thrown here. Not from the event thread.
  void run(task t);

  // Runs all tasks posted so far, then `last`, and ends the thread. `last` destroys what lives on the loop.
  // Again or from the destructor: nothing more happens. Not from the event thread.
  void stop(task last);

  // Sockets and timers. On the event thread only.
  kj::AsyncIoContext& io();

 private:
  struct state;
  std::shared_ptr<mailbox> mailbox_;
  std::unique_ptr<state> state_;
};

}  // namespace weft::schema
