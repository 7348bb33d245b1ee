#include <weft/schema/event_thread.hpp>

#include <kj/async-unix.h>
#include <kj/debug.h>

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <exception>
#include <future>
#include <mutex>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace weft::schema {

struct event_thread::mailbox::state {
  std::mutex mutex;
  std::vector<task> waiting;
  bool closed = false;
  int wake_fd = -1;

  void wake() const {
    const std::uint64_t one = 1;
    // The counter cannot overflow, so a write that fails was interrupted.
    while (write(wake_fd, &one, sizeof one) < 0 && errno == EINTR) {
    }
  }

  void clear_wake() const {
    std::uint64_t count = 0;
    while (read(wake_fd, &count, sizeof count) < 0 && errno == EINTR) {
    }
  }

  std::vector<task> take() {
    const std::lock_guard lock(mutex);
    return std::exchange(waiting, {});
  }

  // No task is accepted any more once there is none left.
  bool close_if_empty() {
    const std::lock_guard lock(mutex);
    closed = waiting.empty();
    return closed;
  }
};

event_thread::mailbox::mailbox() : state_(std::make_unique<state>()) {
  state_->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (state_->wake_fd < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

event_thread::mailbox::~mailbox() {
  close(state_->wake_fd);
}

bool event_thread::mailbox::post(task t) {
  const std::lock_guard lock(state_->mutex);
  if (state_->closed) return false;
  state_->waiting.push_back(kj::mv(t));
  state_->wake();
  return true;
}

struct event_thread::state {
  kj::AsyncIoContext* io = nullptr;  // lives on the event thread's stack
  bool stopping = false;             // touched by the event thread only
  std::thread thread;

  void run_waiting(mailbox::state& tasks) {
    tasks.clear_wake();
    for (auto& t : tasks.take()) {
      const auto failure = kj::runCatchingExceptions([&] { t(); });
      KJ_IF_MAYBE (e, failure) {
        KJ_LOG(ERROR, "a task of the event thread failed", *e);
      }
    }
  }

  kj::Promise<void> serve(mailbox::state& tasks, kj::UnixEventPort::FdObserver& observer) {
    return observer.whenBecomesReadable().then([this, &tasks, &observer]() -> kj::Promise<void> {
      run_waiting(tasks);
      if (stopping) return kj::READY_NOW;
      return serve(tasks, observer);
    });
  }

  void main(mailbox::state& tasks, std::promise<void>& ready) {
    auto context = kj::setupAsyncIo();
    kj::UnixEventPort::FdObserver observer(context.unixEventPort, tasks.wake_fd,
                                           kj::UnixEventPort::FdObserver::OBSERVE_READ);
    io = &context;
    ready.set_value();
    serve(tasks, observer).wait(context.waitScope);
    while (!tasks.close_if_empty())
      run_waiting(tasks);
  }
};

event_thread::event_thread() : mailbox_(std::make_shared<mailbox>()), state_(std::make_unique<state>()) {
  auto ready = std::make_shared<std::promise<void>>();
  auto started = ready->get_future();
  state_->thread = std::thread([this, box = mailbox_, ready] {
    try {
      state_->main(*box->state_, *ready);
    } catch (...) {
      // Before it was ready: the constructor waits for this. Afterwards nothing in main throws.
      ready->set_exception(std::current_exception());
    }
  });
  try {
    started.get();
  } catch (...) {
    state_->thread.join();
    throw;
  }
}

event_thread::~event_thread() {
  stop([] {});
}

void event_thread::run(task t) {
  // Shared: the waiting thread may be gone from here before set_value has returned.
  auto done = std::make_shared<std::promise<void>>();
  auto finished = done->get_future();
  const bool posted = mailbox_->post([&t, done] {
    try {
      t();
      done->set_value();
    } catch (...) {
      done->set_exception(std::current_exception());
    }
  });
  if (!posted) throw std::logic_error("event_thread::run after stop");
  finished.get();
}

void event_thread::stop(task last) {
  if (!state_->thread.joinable()) return;
  mailbox_->post([this, &last] {
    state_->stopping = true;
    last();
  });
  state_->thread.join();
}

kj::AsyncIoContext& event_thread::io() {
  return *state_->io;
}

}  // namespace weft::schema
