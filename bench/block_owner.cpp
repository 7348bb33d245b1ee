#include "block_owner.hpp"

#include <weft/fabric/ucx_transport.hpp>
#include <weft/kernels/convert.hpp>
#include <weft/tier/open.hpp>

#include "raw_ucx.hpp"
#include "stream_socket.hpp"
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

namespace weft::bench {

namespace {

constexpr std::size_t max_packet_bytes = 16 << 10;

enum class order_kind : std::uint32_t { connect_raw, fill, fill_rows, store, recall, stream, raw_send };

struct order {
  order_kind kind{};
  std::uint64_t at = 0;
  std::uint64_t piece_bytes = 0;
  std::uint64_t count = 0;
  std::uint64_t length_bytes = 0;
};

result<void> put_packet(int socket, std::string_view bytes) {
  if (::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size()))
    return {};
  return fail(errc::io, "the other process of the measurement is gone: " + std::string(strerror(errno)));
}

result<std::string> take_packet(int socket) {
  std::string bytes(max_packet_bytes, '\0');
  const auto size = ::recv(socket, bytes.data(), bytes.size(), 0);
  if (size <= 0) return fail(errc::io, "the other process of the measurement has ended");
  bytes.resize(static_cast<std::size_t>(size));
  return bytes;
}

// First '!' where something went wrong, else ' '.
std::string answer_of(bool good, std::string_view rest) {
  return std::string(1, good ? ' ' : '!').append(rest);
}

std::string answer_of(const result<void>& outcome) {
  return answer_of(outcome.has_value(), outcome ? std::string{} : to_string(outcome.error()));
}

std::string packet_of(const order& o, std::string_view more = {}) {
  std::string packet(reinterpret_cast<const char*>(&o), sizeof o);
  return packet.append(more);
}

void fill_with_blocks(std::span<std::byte> arena, std::size_t block_bytes) {
  const auto overhead = block::opaque_size_bytes(block::part_alignment_bytes) - block::part_alignment_bytes;
  std::vector<std::byte> payload(block_bytes - overhead);
  std::mt19937_64 random{block_bytes};
  for (std::size_t i = 0; i + 8 <= payload.size(); i += 8) {
    const auto word = random();
    std::memcpy(payload.data() + i, &word, sizeof word);
  }
  for (std::size_t index = 0; (index + 1) * block_bytes <= arena.size(); ++index) {
    std::memcpy(payload.data(), &index, sizeof index);
    const auto id = identity_of(block_bytes, index);
    (void)block::write_opaque(arena.subspan(index * block_bytes, block_bytes), id, payload, 0);
  }
}

result<void> fill_with_rows(std::span<std::byte> arena, const block::shape& shape, std::size_t stride_bytes,
                            std::size_t count) {
  std::mt19937 random{shape.tokens};
  const auto elements = std::size_t{shape.layers} * shape.kv_heads * shape.tokens * shape.head_dim;
  std::vector<float> noise(elements);
  for (float& value : noise)
    value = static_cast<float>(random() >> 8U) * 0x1p-23F - 1.0F;
  std::vector<std::byte> stored(elements * kernels::size_bytes(shape.dtype));
  kernels::from_f32(shape.dtype, noise.data(), stored.data(), elements);
  const block::kv_source source{.k = stored.data(),
                                .v = stored.data(),
                                .layer_stride = std::size_t{shape.kv_heads} * shape.tokens * shape.head_dim,
                                .head_stride = std::size_t{shape.tokens} * shape.head_dim,
                                .token_stride = shape.head_dim};
  const std::vector<block::band_rows> bands{block::all_rows(shape)};
  const auto bytes = block::size_bytes(shape, bands);
  if (bytes > stride_bytes || count > arena.size() / stride_bytes)
    return fail(errc::out_of_space, "the blocks do not fit into the arena");
  for (std::size_t index = 0; index < count; ++index) {
    auto written = block::write(arena.subspan(index * stride_bytes, bytes), identity_of(stride_bytes, index),
                                shape, bands, source);
    if (!written) return written;
  }
  return {};
}

// Waits for operations of a device.
class pending_operations {
 public:
  tier::device::done begin() {
    const std::lock_guard lock{mutex_};
    ++open_;
    return [this](errc outcome) {
      const std::lock_guard done{mutex_};
      if (outcome != errc::ok) failure_ = outcome;
      if (--open_ == 0) changed_.notify_all();
    };
  }
  result<void> wait() {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [this] { return open_ == 0; });
    if (failure_ == errc::ok) return {};
    return fail(failure_, "the file of the other process of the measurement");
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t open_ = 0;
  errc failure_ = errc::ok;
};

constexpr std::uint64_t sector_bytes = 4096;  // what a device reads and writes in
constexpr std::uint64_t stored_piece_bytes = std::uint64_t{1} << 20;

std::uint64_t sector_below(std::uint64_t offset) {
  return offset / sector_bytes * sector_bytes;
}

// -- the other process ----------------------------------------------------------------------------

struct owner_side {
  std::unique_ptr<fabric::transport> node;
  std::unique_ptr<raw_ucx> raw;
  stream_socket listener;
  stream_socket stream;
  std::unique_ptr<tier::device> file{};

  result<void> carry_out(const order& o, std::string_view more) {
    switch (o.kind) {
      case order_kind::connect_raw:
        return raw->connect(std::string(more));
      case order_kind::fill:
        fill_with_blocks(node->arena(), o.piece_bytes);
        return {};
      case order_kind::fill_rows: {
        block::shape shape;
        if (more.size() != sizeof shape) return fail(errc::internal, "a shape of another size");
        std::memcpy(&shape, more.data(), sizeof shape);
        return fill_with_rows(node->arena(), shape, o.piece_bytes, o.count);
      }
      case order_kind::store:
        return store(std::string(more), o.length_bytes);
      case order_kind::recall:
        return recall(o);
      case order_kind::stream:
        return stream_pieces(o);
      case order_kind::raw_send:
        return raw->send(o.at, o.piece_bytes, o.count);
    }
    return fail(errc::internal, "an order that nobody gives");
  }

  result<void> store(const std::filesystem::path& folder, std::uint64_t bytes) {
    const auto arena = node->arena();
    const auto whole = std::min<std::uint64_t>(sector_below(bytes + sector_bytes - 1), arena.size());
    if (!file) {
      auto opened = tier::open_file_device(folder, arena.size());
      if (!opened) return tl::unexpected{opened.error()};
      file = std::move(*opened);
    }
    pending_operations writes;
    for (std::uint64_t at = 0; at < whole; at += stored_piece_bytes)
      file->write(tier::area::data, at, arena.subspan(at, std::min(stored_piece_bytes, whole - at)),
                  writes.begin());
    if (auto written = writes.wait(); !written) return written;
    pending_operations flush;
    file->sync(flush.begin());
    return flush.wait();
  }

  result<void> recall(const order& o) {
    if (!file) return fail(errc::internal, "nothing was put on file");
    const auto arena = node->arena();
    pending_operations reads;
    for (std::uint64_t i = 0; i < o.count; ++i) {
      const auto first = sector_below(i * o.piece_bytes + o.at);
      const auto last = sector_below(i * o.piece_bytes + o.at + o.length_bytes + sector_bytes - 1);
      file->read(tier::area::data, first, arena.subspan(first, last - first), reads.begin());
    }
    return reads.wait();
  }

  result<void> stream_pieces(const order& o) {
    if (!stream) {
      auto accepted = listener.accept();
      if (!accepted) return tl::unexpected{accepted.error()};
      stream = std::move(*accepted);
    }
    for (std::uint64_t i = 0; i < o.count; ++i) {
      auto sent = stream.write_all(node->arena().subspan(o.at + i * o.piece_bytes, o.piece_bytes));
      if (!sent) return sent;
    }
    return {};
  }
};

result<owner_side> make_owner(const std::string& transport, std::size_t arena_bytes) {
  fabric::ucx_options options;
  options.transports = transport;
  options.arena_bytes = arena_bytes;
  auto node = fabric::make_ucx_transport(options);
  if (!node) return tl::unexpected{node.error()};
  auto raw = raw_ucx::make(transport, arena_bytes);
  if (!raw) return tl::unexpected{raw.error()};
  auto listener = stream_socket::listen();
  if (!listener) return tl::unexpected{listener.error()};
  return owner_side{std::move(*node), std::move(*raw), std::move(*listener), {}, {}};
}

result<void> serve(int control, const std::string& transport, std::size_t arena_bytes) {
  auto owner = make_owner(transport, arena_bytes);
  if (!owner) return put_packet(control, answer_of(false, to_string(owner.error())));
  const auto port = owner->listener.port();
  for (const auto& beginning :
       {owner->node->address(), owner->raw->address(), std::string(reinterpret_cast<const char*>(&port), 2)})
    if (auto told = put_packet(control, answer_of(true, beginning)); !told) return told;
  for (;;) {
    const auto packet = take_packet(control);
    if (!packet || packet->size() < sizeof(order)) return {};
    order o;
    std::memcpy(&o, packet->data(), sizeof o);
    const auto done = owner->carry_out(o, std::string_view(*packet).substr(sizeof o));
    if (auto told = put_packet(control, answer_of(done)); !told) return told;
  }
}

result<std::string> take_answer(int control) {
  auto packet = take_packet(control);
  if (!packet) return packet;
  if (packet->empty() || packet->front() == '!')
    return fail(errc::io, "the other process of the measurement: " + packet->substr(packet->empty() ? 0 : 1));
  return packet->substr(1);
}

}  // namespace

block::expectation expectation_of(std::size_t block_bytes, std::size_t index) {
  return {.key = {block_bytes, index}, .generation = index + 1, .incarnation = 1};
}

block::identity identity_of(std::size_t block_bytes, std::size_t index) {
  const auto made = expectation_of(block_bytes, index);
  return {made.key, made.fingerprint, made.generation, made.incarnation};
}

result<block_owner> block_owner::start(const std::string& transport, std::size_t arena_bytes) {
  std::array<int, 2> ends{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail(errc::io, "a socket pair: " + std::string(strerror(errno)));
  const auto parent = getpid();
  const auto process = fork();
  if (process < 0) return fail(errc::io, "a second process: " + std::string(strerror(errno)));
  if (process == 0) {
    close(ends[0]);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    const auto served = serve(ends[1], transport, arena_bytes);
    _exit(served ? 0 : 1);
  }
  close(ends[1]);
  return block_owner{transport, process, ends[0]};
}

block_owner::block_owner(block_owner&& other) noexcept
    : transport_(std::move(other.transport_)),
      process_(std::exchange(other.process_, -1)),
      control_(std::exchange(other.control_, -1)),
      fabric_address_(std::move(other.fabric_address_)),
      raw_address_(std::move(other.raw_address_)),
      stream_port_(other.stream_port_) {}

block_owner::~block_owner() {
  if (control_ >= 0) close(control_);
  if (process_ < 0) return;
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
}

result<void> block_owner::await_ready() {
  auto fabric = take_answer(control_);
  if (!fabric) return tl::unexpected{fabric.error()};
  auto raw = take_answer(control_);
  if (!raw) return tl::unexpected{raw.error()};
  auto port = take_answer(control_);
  if (!port) return tl::unexpected{port.error()};
  fabric_address_ = std::move(*fabric);
  raw_address_ = std::move(*raw);
  std::memcpy(&stream_port_, port->data(), sizeof stream_port_);
  return {};
}

result<void> block_owner::await_done(const std::function<void()>& meanwhile) {
  pollfd readable{control_, POLLIN, 0};
  while (meanwhile && poll(&readable, 1, 0) == 0)
    meanwhile();
  const auto answer = take_answer(control_);
  if (!answer) return tl::unexpected{answer.error()};
  return {};
}

result<void> block_owner::connect_raw(const std::string& address) {
  if (auto told = put_packet(control_, packet_of({.kind = order_kind::connect_raw}, address)); !told)
    return told;
  return await_done();
}

result<void> block_owner::fill(std::size_t block_bytes) {
  if (auto told = put_packet(control_, packet_of({.kind = order_kind::fill, .piece_bytes = block_bytes}));
      !told)
    return told;
  return await_done();
}

result<void> block_owner::fill_rows(const block::shape& shape, std::size_t stride_bytes, std::size_t count) {
  const order o{.kind = order_kind::fill_rows, .piece_bytes = stride_bytes, .count = count};
  const std::string_view more(reinterpret_cast<const char*>(&shape), sizeof shape);
  if (auto told = put_packet(control_, packet_of(o, more)); !told) return told;
  return await_done();
}

result<void> block_owner::store(const std::filesystem::path& folder, std::uint64_t bytes) {
  const order o{.kind = order_kind::store, .length_bytes = bytes};
  if (auto told = put_packet(control_, packet_of(o, folder.string())); !told) return told;
  return await_done();
}

result<void> block_owner::recall(std::uint64_t at, std::uint64_t length_bytes, std::size_t stride_bytes,
                                 std::size_t count) {
  const order o{order_kind::recall, at, stride_bytes, count, length_bytes};
  if (auto told = put_packet(control_, packet_of(o)); !told) return told;
  return await_done();
}

result<void> block_owner::begin_stream(std::uint64_t at, std::size_t piece_bytes, std::size_t count) {
  return put_packet(control_, packet_of({order_kind::stream, at, piece_bytes, count}));
}

result<void> block_owner::begin_raw_send(std::uint64_t at, std::size_t piece_bytes, std::size_t count) {
  return put_packet(control_, packet_of({order_kind::raw_send, at, piece_bytes, count}));
}

}  // namespace weft::bench
