#include <weft/fabric/ucx_transport.hpp>

#include "ucx/progress_loop.hpp"
#include "ucx/socket_address.hpp"

#include <filesystem>
#include <random>
#include <thread>
#include <utility>

namespace weft::fabric {

namespace {

// So that "forever" does not wrap.
constexpr auto longest_timeout = std::chrono::hours{24 * 365};

time_point deadline_after(duration timeout) {
  return std::chrono::steady_clock::now() + std::min<duration>(timeout, longest_timeout);
}

class ucx_transport final : public transport {
 public:
  ucx_transport(std::string address, std::unique_ptr<handler_table> handlers,
                std::unique_ptr<node_statistics> statistics, std::unique_ptr<progress_loop> loop,
                ucx_context context)
      : address_(std::move(address)),
        context_(std::move(context)),
        handlers_(std::move(handlers)),
        statistics_(std::move(statistics)),
        loop_(std::move(loop)),
        thread_([this] { loop_->run(); }) {}

  ucx_transport(const ucx_transport&) = delete;
  ucx_transport& operator=(const ucx_transport&) = delete;

  ~ucx_transport() override {
    loop_->stop();
    thread_.join();
  }

  std::string address() const override { return address_; }
  std::span<std::byte> arena() override { return loop_->arena(); }

  void connect(std::string address, duration timeout, connect_callback done) override {
    loop_->submit(connect_command{std::move(address), deadline_after(timeout), std::move(done)});
  }

  void disconnect(peer_id peer) override { loop_->submit(disconnect_command{peer}); }

  operation_id fetch(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                     std::shared_ptr<fetch_watcher> watcher) override {
    auto operation = make(peer, std::move(ranges), timeout, std::move(done));
    operation->watcher = std::move(watcher);
    return start(std::move(operation));
  }

  operation_id view(peer_id peer, std::vector<fetch_range> ranges, duration timeout, fetch_callback done,
                    std::shared_ptr<fetch_watcher> watcher) override {
    auto operation = make(peer, std::move(ranges), timeout, std::move(done));
    operation->watcher = std::move(watcher);
    operation->in_place = true;
    return start(std::move(operation));
  }

  result<std::shared_ptr<const registered_memory>> register_memory(std::span<std::byte> bytes,
                                                                   memory_kind kind) override {
    return ucx_registration::make(context_, bytes, kind);
  }

  operation_id land(peer_id peer, std::vector<fetch_range> ranges,
                    std::shared_ptr<const registered_memory> into, duration timeout,
                    fetch_callback done) override {
    auto operation = make(peer, std::move(ranges), timeout, std::move(done));
    operation->into = ucx_registration::find(context_, std::move(into));
    if (!operation->into)
      operation->ended_by = error{errc::invalid_argument, "no memory that this transport registered"};
    return start(std::move(operation));
  }

  void cancel(operation_id operation) override { loop_->submit(cancel_command{operation}); }

  void send(peer_id peer, std::uint16_t channel, std::vector<std::byte> payload,
            send_callback done) override {
    loop_->submit(send_command{peer, channel, std::move(payload), std::move(done)});
  }

  void drive(const std::function<void()>& begin, arrival& until) override { loop_->drive(begin, until); }

  void on_message(std::uint16_t channel, message_handler handler) override {
    handlers_->set(channel, std::move(handler));
  }
  void on_peer_down(peer_down_handler handler) override { handlers_->set_peer_down(std::move(handler)); }

  bool moves_cuda() const { return moves_cuda_memory(context_); }

  std::vector<peer_status> peers() const override { return statistics_->peers(); }
  transport_counters counters() const override { return statistics_->counters(); }

 private:
  using operation_pointer = std::unique_ptr<fetch_operation>;

  operation_pointer make(peer_id peer, std::vector<fetch_range> ranges, duration timeout,
                         fetch_callback done) {
    auto operation = loop_->new_operation();
    operation->id = operation_id{next_operation_.fetch_add(1, std::memory_order_relaxed)};
    operation->peer = peer;
    operation->ranges = std::move(ranges);
    operation->done = std::move(done);
    operation->started = std::chrono::steady_clock::now();
    operation->deadline = deadline_after(timeout);
    return operation;
  }

  operation_id start(operation_pointer operation) {
    const auto id = operation->id;
    if (!loop_->finish_at_once(operation)) loop_->submit(fetch_command{std::move(operation)});
    return id;
  }

  std::string address_;
  ucx_context context_;
  std::unique_ptr<handler_table> handlers_;
  std::unique_ptr<node_statistics> statistics_;
  std::unique_ptr<progress_loop> loop_;
  std::atomic<std::uint64_t> next_operation_{1};
  std::thread thread_;
};

id128 random_nonce() {
  std::random_device device;
  const auto word = [&] { return (std::uint64_t{device()} << 32) | device(); };
  return {word(), word()};
}

// Naming an interface also hides the RDMA devices, so tcp is left to UCX's choice where there are any.
std::string tcp_interface(const std::string& host) {
  std::error_code none;
  const bool has_rdma = std::filesystem::exists("/sys/class/infiniband", none) &&
                        !std::filesystem::is_empty("/sys/class/infiniband", none);
  const auto interface = interface_of(host);
  return has_rdma && interface != "lo" ? std::string{} : interface;
}

result<void> check(const ucx_options& options) {
  if (options.arena_bytes == 0) return fail(errc::invalid_argument, "an arena of 0 bytes");
  if (options.chunk_bytes < min_chunk_bytes || options.chunk_bytes > max_chunk_bytes)
    return fail(errc::invalid_argument, "chunks of " + std::to_string(options.chunk_bytes) + " bytes; " +
                                            std::to_string(min_chunk_bytes) + " to " +
                                            std::to_string(max_chunk_bytes) + " are possible");
  return {};
}

result<std::unique_ptr<transport>> start(const ucx_options& options, const std::string& host) {
  auto context = make_ucx_context({options.transports, tcp_interface(host), options.chunk_bytes});
  if (!context) return tl::unexpected{context.error()};
  auto worker = ucx_worker::make(*context);
  if (!worker) return tl::unexpected{worker.error()};
  auto arena = ucx_arena::make(*context, options.arena_bytes);
  if (!arena) return tl::unexpected{arena.error()};
  auto key = arena->packed_key();
  if (!key) return tl::unexpected{key.error()};
  auto listener = ucx_listener::make(*worker, host, options.port);
  if (!listener) return tl::unexpected{listener.error()};

  own_identity self;
  self.map_peer_arenas = options.map_peer_arenas;
  self.address = {.host = host,
                  .port = listener->port(),
                  .nonce = random_nonce(),
                  .arena_base = reinterpret_cast<std::uintptr_t>(arena->bytes().data()),
                  .arena_bytes = arena->bytes().size(),
                  .rkey = std::move(*key)};
  auto encoded = encode(self.address);
  if (!encoded) return tl::unexpected{encoded.error()};
  self.encoded = *encoded;

  auto handlers = std::make_unique<handler_table>();
  auto statistics = std::make_unique<node_statistics>();
  auto loop = std::make_unique<progress_loop>(std::move(*worker), std::move(*arena), std::move(*listener),
                                              std::move(self), *handlers, *statistics,
                                              progress_options{.spin_rounds = options.spin_rounds,
                                                               .driver_spin = options.driver_spin,
                                                               .chunk_bytes = options.chunk_bytes});
  if (auto prepared = loop->prepare(); !prepared) return tl::unexpected{prepared.error()};
  return std::make_unique<ucx_transport>(std::move(*encoded), std::move(handlers), std::move(statistics),
                                         std::move(loop), std::move(*context));
}

}  // namespace

result<std::unique_ptr<transport>> make_ucx_transport(const ucx_options& options) {
  if (auto good = check(options); !good) return tl::unexpected{good.error()};
  auto host = resolve_own_host(options.host);
  if (!host) return tl::unexpected{host.error()};
  return start(options, *host);
}

bool moves_cuda_memory(const transport& t) {
  const auto* const known = dynamic_cast<const ucx_transport*>(&t);
  return known != nullptr && known->moves_cuda();
}

}  // namespace weft::fabric
