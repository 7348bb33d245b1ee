// UCX's application context: which transports and devices this process uses.
#pragma once

#include <weft/base/error.hpp>

#include <ucp/api/ucp.h>

#include <cstdint>
#include <memory>
#include <string>

namespace weft::fabric {

// Shared by everything made from it, so that it goes last.
using ucx_context = std::shared_ptr<ucp_context>;

struct ucx_context_options {
  std::string transports;  // as in ucx_options
  std::string interface;   // network interface for tcp, "": all
  std::uint32_t chunk_bytes = 0;
  std::string keepalive = {};  // how often a silent peer is looked after, as UCX reads it; "": its own
};

result<ucx_context> make_ucx_context(const ucx_context_options& options);

// Whether the memory of CUDA devices is among the kinds that the context's transports move.
bool moves_cuda_memory(const ucx_context& context);

}  // namespace weft::fabric
