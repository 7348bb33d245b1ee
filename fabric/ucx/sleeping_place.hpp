// Where the threads of a progress loop sleep until UCX or a submission has something for them: its own thread
// and, instead of it, one that drives the loop for a while.
#pragma once

namespace weft::fabric {

class sleeping_place {
 public:
  // Descriptors that become readable; they stay their owners'.
  sleeping_place(int events, int submissions);
  sleeping_place(const sleeping_place&) = delete;
  sleeping_place& operator=(const sleeping_place&) = delete;
  ~sleeping_place();

  // The loop's own thread.
  void sleep(int timeout_ms) const;

  // The own thread hears nothing, asleep or not, until `take_back`.
  void lend();
  void take_back();
  // Whom it is lent to. True: there are submissions.
  bool sleep_as_guest(int timeout_ms) const;

 private:
  void listen(unsigned events_wanted) const;

  int events_ = -1;
  int submissions_ = -1;
  int own_ = -1;  // an epoll set
};

}  // namespace weft::fabric
