#include "ucx/sleeping_place.hpp"

#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <stdexcept>

namespace weft::fabric {

sleeping_place::sleeping_place(int events, int submissions)
    : events_(events), submissions_(submissions), own_(epoll_create1(EPOLL_CLOEXEC)) {
  if (own_ < 0) throw std::runtime_error("no epoll set: out of file descriptors");
  for (const int descriptor : {events_, submissions_}) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    if (epoll_ctl(own_, EPOLL_CTL_ADD, descriptor, &wanted) != 0) {
      close(own_);
      throw std::runtime_error("UCX's event descriptor cannot be waited for");
    }
  }
}

sleeping_place::~sleeping_place() {
  close(own_);
}

void sleeping_place::sleep(int timeout_ms) const {
  epoll_event ready{};
  epoll_wait(own_, &ready, 1, timeout_ms);
}

void sleeping_place::lend() {
  listen(0);
}

void sleeping_place::take_back() {
  listen(EPOLLIN);
}

// Neither wakes the own thread by itself, but what is readable by then does.
void sleeping_place::listen(unsigned events_wanted) const {
  for (const int descriptor : {events_, submissions_}) {
    epoll_event wanted{};
    wanted.events = events_wanted;
    epoll_ctl(own_, EPOLL_CTL_MOD, descriptor, &wanted);
  }
}

bool sleeping_place::sleep_as_guest(int timeout_ms) const {
  std::array<pollfd, 2> descriptors{{{events_, POLLIN, 0}, {submissions_, POLLIN, 0}}};
  poll(descriptors.data(), descriptors.size(), timeout_ms);
  return (descriptors[1].revents & POLLIN) != 0;
}

}  // namespace weft::fabric
