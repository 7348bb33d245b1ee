#include "ucx/context.hpp"

#include "ucx/status.hpp"

#include <cstdlib>
#include <string_view>

namespace weft::fabric {

namespace {

struct config_release {
  void operator()(ucp_config_t* config) const { ucp_config_release(config); }
};
using config_pointer = std::unique_ptr<ucp_config_t, config_release>;

// Sysv segments outlive a killed process and cma is never chosen with peer failure detection on.
std::string transport_list(const std::string& wanted) {
  if (wanted.empty()) return "^sysv,cma";
  if (wanted == "tcp") return "tcp,self";
  if (wanted == "shm") return "posix,tcp,self";  // connections are set up over tcp
  return wanted;
}

bool has_shared_memory(std::string_view transports) {
  for (const auto* name : {"^", "all", "posix", "shm", "sm", "sysv"})
    if (transports.find(name) != std::string_view::npos) return true;
  return false;
}

// `key` is the name without its prefix where UCX knows it by that name only.
result<void> set_unless_in_environment(ucp_config_t* config, const char* variable, const char* key,
                                       const std::string& value) {
  if (std::getenv(variable) != nullptr) return {};
  const auto status = ucp_config_modify(config, key, value.c_str());
  if (status != UCS_OK) return fail(status, "setting UCX's option " + std::string{key} + "=" + value);
  return {};
}

std::string tls_in_effect(const std::string& transports) {
  const auto* from_environment = std::getenv("UCX_TLS");
  return from_environment != nullptr ? from_environment : transports;
}

result<void> apply(ucp_config_t* config, const ucx_context_options& options) {
  const auto transports = transport_list(options.transports);
  const auto segment_bytes = std::to_string(options.chunk_bytes + 4096);
  struct setting {
    const char* variable;
    const char* key;
    std::string value;
    bool needed;
  };
  const setting settings[] = {
      {"UCX_TLS", "TLS", transports, true},
      {"UCX_NET_DEVICES", "NET_DEVICES", options.interface, !options.interface.empty()},
      {"UCX_WARN_UNUSED_ENV_VARS", "WARN_UNUSED_ENV_VARS", "n", true},
      {"UCX_HANDLE_ERRORS", "HANDLE_ERRORS", "none", true},
      {"UCX_SOCKADDR_TLS_PRIORITY", "SOCKADDR_TLS_PRIORITY", "tcp", true},
      // A restarted node takes its port again at once.
      {"UCX_TCP_CM_REUSEADDR", "CM_REUSEADDR", "y", true},
      // Shared memory although endpoints watch their peers.
      {"UCX_MM_ERROR_HANDLING", "MM_ERROR_HANDLING", "y", has_shared_memory(tls_in_effect(transports))},
      // A chunk with its headers is one segment, so it arrives without being put together first.
      {"UCX_TCP_RX_SEG_SIZE", "RX_SEG_SIZE", segment_bytes, true},
      {"UCX_KEEPALIVE_INTERVAL", "KEEPALIVE_INTERVAL", options.keepalive, !options.keepalive.empty()},
  };
  for (const auto& s : settings) {
    if (!s.needed) continue;
    if (auto set = set_unless_in_environment(config, s.variable, s.key, s.value); !set) return set;
  }
  return {};
}

}  // namespace

result<ucx_context> make_ucx_context(const ucx_context_options& options) {
  ucp_config_t* raw_config = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &raw_config); status != UCS_OK)
    return fail(status, "reading UCX's configuration");
  const config_pointer config{raw_config};
  if (auto applied = apply(config.get(), options); !applied) return tl::unexpected{applied.error()};

  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES | UCP_PARAM_FIELD_NAME | UCP_PARAM_FIELD_MT_WORKERS_SHARED;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_RMA | UCP_FEATURE_WAKEUP;
  params.name = "weft";
  params.mt_workers_shared = 1;  // memory is registered beside the thread that moves the worker
  ucp_context_h context = nullptr;
  if (const auto status = ucp_init(&params, config.get(), &context); status != UCS_OK)
    return fail(status, "starting UCX with transports '" + transport_list(options.transports) +
                            "' (`ucx_info -d` lists what this machine has)");
  return ucx_context{context, ucp_cleanup};
}

bool moves_cuda_memory(const ucx_context& context) {
  ucp_context_attr_t attributes{};
  attributes.field_mask = UCP_ATTR_FIELD_MEMORY_TYPES;
  return ucp_context_query(context.get(), &attributes) == UCS_OK &&
         (attributes.memory_types & UCS_BIT(UCS_MEMORY_TYPE_CUDA)) != 0;
}

}  // namespace weft::fabric
