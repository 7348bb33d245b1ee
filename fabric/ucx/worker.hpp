// UCX's progress engine. Everything of it and made from it is used by one thread at a
// time.
#pragma once

#include "ucx/context.hpp"

namespace weft::fabric {

class ucx_worker {
 public:
  static result<ucx_worker> make(const ucx_context& context);

  // True if something moved.
  bool progress() const { return ucp_worker_progress(worker_.get()) != 0; }

  // Before sleeping on `event_descriptor`. False: there is work, progress first.
  bool arm() const { return ucp_worker_arm(worker_.get()) == UCS_OK; }
  int event_descriptor() const { return event_descriptor_; }

  result<void> set_handler(unsigned id, ucp_am_recv_callback_t handler, void* argument) const;

  ucp_worker_h get() const { return worker_.get(); }
  const std::shared_ptr<ucp_worker>& handle() const { return worker_; }

 private:
  ucx_worker(std::shared_ptr<ucp_worker> worker, int event_descriptor)
      : worker_(std::move(worker)), event_descriptor_(event_descriptor) {}

  std::shared_ptr<ucp_worker> worker_;  // its deleter holds the context
  int event_descriptor_ = -1;
};

}  // namespace weft::fabric
