#include "ucx/worker.hpp"

#include "ucx/status.hpp"

namespace weft::fabric {

result<ucx_worker> ucx_worker::make(const ucx_context& context) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  // Made on one thread and used on another, never by two at once.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  ucp_worker_h raw = nullptr;
  if (const auto status = ucp_worker_create(context.get(), &params, &raw); status != UCS_OK)
    return fail(status, "creating a UCX worker");
  std::shared_ptr<ucp_worker> worker{raw, [context](ucp_worker_h w) { ucp_worker_destroy(w); }};
  int descriptor = -1;
  if (const auto status = ucp_worker_get_efd(raw, &descriptor); status != UCS_OK)
    return fail(status, "asking UCX for a descriptor to sleep on");
  return ucx_worker{std::move(worker), descriptor};
}

result<void> ucx_worker::set_handler(unsigned id, ucp_am_recv_callback_t handler, void* argument) const {
  ucp_am_handler_param_t params{};
  params.field_mask =
      UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  params.id = id;
  params.cb = handler;
  params.arg = argument;
  if (const auto status = ucp_worker_set_am_recv_handler(worker_.get(), &params); status != UCS_OK)
    return fail(status, "setting an active message handler");
  return {};
}

}  // namespace weft::fabric
