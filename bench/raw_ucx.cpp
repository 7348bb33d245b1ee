#include "raw_ucx.hpp"

#include <array>
#include <cstring>

namespace weft::bench {

namespace {

constexpr unsigned piece_message = 1;
constexpr std::size_t window = 16;

tl::unexpected<error> failed(ucs_status_t status, const std::string& what) {
  return fail(errc::io, "raw UCX: " + what + ": " + ucs_status_string(status));
}

result<std::shared_ptr<ucp_context>> make_context(const std::string& transport) {
  ucp_config_t* config = nullptr;
  if (const auto status = ucp_config_read(nullptr, nullptr, &config); status != UCS_OK)
    return failed(status, "reading its configuration");
  const std::unique_ptr<ucp_config_t, decltype(&ucp_config_release)> owner{config, ucp_config_release};
  const bool shared = transport == "shm";
  ucp_config_modify(config, "TLS", shared ? "posix,tcp,self" : "tcp,self");
  ucp_config_modify(config, "WARN_UNUSED_ENV_VARS", "n");
  ucp_config_modify(config, "HANDLE_ERRORS", "none");
  ucp_config_modify(config, "NET_DEVICES", "lo");
  if (shared) ucp_config_modify(config, "MM_ERROR_HANDLING", "y");
  ucp_params_t params{};
  params.field_mask = UCP_PARAM_FIELD_FEATURES;
  params.features = UCP_FEATURE_AM | UCP_FEATURE_RMA;
  ucp_context_h raw = nullptr;
  if (const auto status = ucp_init(&params, config, &raw); status != UCS_OK)
    return failed(status, "starting");
  return std::shared_ptr<ucp_context>{raw, ucp_cleanup};
}

result<std::shared_ptr<ucp_worker>> make_worker(ucp_context_h context) {
  ucp_worker_params_t params{};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  ucp_worker_h raw = nullptr;
  if (const auto status = ucp_worker_create(context, &params, &raw); status != UCS_OK)
    return failed(status, "making a worker");
  return std::shared_ptr<ucp_worker>{raw, ucp_worker_destroy};
}

void append(std::string& out, const void* bytes, std::size_t size) {
  const auto length = static_cast<std::uint32_t>(size);
  out.append(reinterpret_cast<const char*>(&length), sizeof length);
  out.append(static_cast<const char*>(bytes), size);
}

std::string take(std::string& in) {
  std::uint32_t length = 0;
  std::memcpy(&length, in.data(), sizeof length);
  auto part = in.substr(sizeof length, length);
  in.erase(0, sizeof length + length);
  return part;
}

}  // namespace

result<std::unique_ptr<raw_ucx>> raw_ucx::make(const std::string& transport, std::size_t bytes) {
  std::unique_ptr<raw_ucx> made{new raw_ucx};
  if (auto started = made->start(transport, bytes); !started) return tl::unexpected{started.error()};
  return made;
}

result<void> raw_ucx::start(const std::string& transport, std::size_t bytes) {
  auto context = make_context(transport);
  if (!context) return tl::unexpected{context.error()};
  context_ = std::move(*context);
  auto worker = make_worker(context_.get());
  if (!worker) return tl::unexpected{worker.error()};
  worker_ = std::move(*worker);

  ucp_mem_map_params_t map{};
  map.field_mask =
      UCP_MEM_MAP_PARAM_FIELD_ADDRESS | UCP_MEM_MAP_PARAM_FIELD_LENGTH | UCP_MEM_MAP_PARAM_FIELD_FLAGS;
  map.length = bytes;
  map.flags = UCP_MEM_MAP_ALLOCATE;
  ucp_mem_h memory = nullptr;
  if (const auto status = ucp_mem_map(context_.get(), &map, &memory); status != UCS_OK)
    return failed(status, "mapping " + std::to_string(bytes) + " bytes");
  registration_ = {memory, [context = context_](ucp_mem_h m) { ucp_mem_unmap(context.get(), m); }};
  ucp_mem_attr_t attributes{};
  attributes.field_mask = UCP_MEM_ATTR_FIELD_ADDRESS;
  if (const auto status = ucp_mem_query(memory, &attributes); status != UCS_OK)
    return failed(status, "asking where its memory is");
  memory_ = {static_cast<std::byte*>(attributes.address), bytes};
  std::memset(memory_.data(), 1, memory_.size());

  ucp_am_handler_param_t handler{};
  handler.field_mask =
      UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = piece_message;
  handler.cb = [](void* self, const void*, std::size_t, void* data, std::size_t size,
                  const ucp_am_recv_param_t* how) {
    return static_cast<raw_ucx*>(self)->on_piece(data, size, *how);
  };
  handler.arg = this;
  if (const auto status = ucp_worker_set_am_recv_handler(worker_.get(), &handler); status != UCS_OK)
    return failed(status, "setting a handler");
  return {};
}

raw_ucx::~raw_ucx() {
  remote_key_.reset();
  endpoint_.reset();
}

std::string raw_ucx::address() const {
  ucp_address_t* worker_address = nullptr;
  std::size_t worker_bytes = 0;
  void* key = nullptr;
  std::size_t key_bytes = 0;
  std::string out;
  if (ucp_worker_get_address(worker_.get(), &worker_address, &worker_bytes) != UCS_OK) return out;
  append(out, worker_address, worker_bytes);
  ucp_worker_release_address(worker_.get(), worker_address);
  if (ucp_rkey_pack(context_.get(), registration_.get(), &key, &key_bytes) != UCS_OK) return {};
  append(out, key, key_bytes);
  ucp_rkey_buffer_release(key);
  const auto base = reinterpret_cast<std::uintptr_t>(memory_.data());
  append(out, &base, sizeof base);
  return out;
}

result<void> raw_ucx::connect(const std::string& address) {
  if (address.empty()) return fail(errc::unreachable, "raw UCX: the other side has no address");
  auto rest = address;
  const auto worker_address = take(rest);
  const auto key = take(rest);
  const auto base = take(rest);
  std::memcpy(&remote_base_, base.data(), sizeof remote_base_);
  ucp_ep_params_t params{};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE;
  params.address = reinterpret_cast<const ucp_address_t*>(worker_address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  ucp_ep_h endpoint = nullptr;
  if (const auto status = ucp_ep_create(worker_.get(), &params, &endpoint); status != UCS_OK)
    return failed(status, "connecting");
  endpoint_ = {endpoint, [worker = worker_](ucp_ep_h e) {
                 ucp_request_param_t force{};
                 force.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
                 force.flags = UCP_EP_CLOSE_FLAG_FORCE;
                 auto* closing = ucp_ep_close_nbx(e, &force);
                 if (!UCS_PTR_IS_PTR(closing)) return;
                 while (ucp_request_check_status(closing) == UCS_INPROGRESS)
                   ucp_worker_progress(worker.get());
                 ucp_request_free(closing);
               }};
  ucp_rkey_h unpacked = nullptr;
  if (const auto status = ucp_ep_rkey_unpack(endpoint, key.data(), &unpacked); status != UCS_OK)
    return failed(status, "unpacking the remote key");
  remote_key_ = {unpacked, ucp_rkey_destroy};
  return {};
}

result<void> raw_ucx::await(void* request) {
  if (UCS_PTR_IS_ERR(request)) return failed(UCS_PTR_STATUS(request), "an operation");
  if (!UCS_PTR_IS_PTR(request)) return {};
  auto status = ucp_request_check_status(request);
  while (status == UCS_INPROGRESS) {
    progress();
    status = ucp_request_check_status(request);
  }
  ucp_request_free(request);
  if (status != UCS_OK) return failed(status, "an operation");
  return {};
}

// Keeps at most `window` requests of `post(index)` open.
template <class Post>
result<void> raw_ucx::in_window(std::size_t count, Post post) {
  std::array<void*, window> open{};
  for (std::size_t i = 0; i < count + window; ++i) {
    auto& slot = open[i % window];
    if (auto done = await(slot); !done) return done;
    slot = i < count ? post(i) : nullptr;
  }
  return {};
}

result<void> raw_ucx::get(std::uint64_t at, std::size_t piece_bytes, std::size_t count) {
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_MEMH;
  params.memh = registration_.get();
  return in_window(count, [&](std::size_t i) {
    const auto offset = at + i * piece_bytes;
    return ucp_get_nbx(endpoint_.get(), memory_.data() + offset, piece_bytes, remote_base_ + offset,
                       remote_key_.get(), &params);
  });
}

result<void> raw_ucx::send(std::uint64_t at, std::size_t piece_bytes, std::size_t count) {
  ucp_request_param_t params{};
  return in_window(count, [&](std::size_t i) {
    return ucp_am_send_nbx(endpoint_.get(), piece_message, nullptr, 0, memory_.data() + at + i * piece_bytes,
                           piece_bytes, &params);
  });
}

result<void> raw_ucx::receive(std::uint64_t at, std::size_t piece_bytes, std::size_t count) {
  next_at_ = at;
  missing_pieces_ = count;
  if (at + piece_bytes * count > memory_.size())
    return fail(errc::invalid_argument, "raw UCX: too many bytes");
  while (missing_pieces_ > 0)
    progress();
  return {};
}

ucs_status_t raw_ucx::on_piece(void* data, std::size_t bytes, const ucp_am_recv_param_t& how) {
  auto* to = memory_.data() + next_at_;
  next_at_ += bytes;
  if ((how.recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0) {
    std::memcpy(to, data, bytes);
    --missing_pieces_;
    return UCS_OK;
  }
  ucp_request_param_t params{};
  params.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_MEMH |
                        UCP_OP_ATTR_FLAG_NO_IMM_CMPL;
  params.memh = registration_.get();
  params.user_data = this;
  params.cb.recv_am = [](void* request, ucs_status_t, std::size_t, void* self) {
    --static_cast<raw_ucx*>(self)->missing_pieces_;
    ucp_request_free(request);
  };
  ucp_am_recv_data_nbx(worker_.get(), data, to, bytes, &params);
  return UCS_OK;
}

}  // namespace weft::bench
