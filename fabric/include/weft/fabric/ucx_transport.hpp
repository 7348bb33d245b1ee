// The transport between processes: UCX over shared memory, RDMA or tcp.
#pragma once

#include <weft/fabric/transport.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace weft::fabric {

struct ucx_options {
  std::string host = "127.0.0.1";  // name or address of this machine that peers reach; tcp uses its interface
  std::uint16_t port = 0;          // 0: any free one
  std::size_t arena_bytes = std::size_t{64} << 20;

  // "": everything that fits; "tcp", "shm", or a list for UCX_TLS. UCX's environment variables come before
  // this.
  std::string transports;

  // Copies out of a peer's arena through a mapping where there is one; else by gets of UCX.
  bool map_peer_arenas = true;

  // Bytes of one pushed piece, which is also a receive buffer of tcp. Small ones cost CPU per byte; more than
  // `max_chunk_bytes` or less than `min_chunk_bytes` is refused.
  std::uint32_t chunk_bytes = 256U << 10;

  // Rounds without work before the progress thread sleeps. More saves wake-ups where every thread has a core
  // of its own; elsewhere, and beside a hyperthread, they slow down the one that is waited for.
  unsigned spin_rounds = 0;

  // How long a thread that drives the transport while it waits looks for work, yielding its core to others,
  // before it sleeps.
  duration driver_spin = std::chrono::microseconds{200};
};

// Listens when it returns. Its destructor ends what is in flight (`cancelled`), after which no callback
// comes. Fails with invalid_argument (host, chunk size), out_of_space (arena), io (port in use) or internal.
result<std::unique_ptr<transport>> make_ucx_transport(const ucx_options& options);

// Whether this is a transport of UCX's that says that it moves the memory of CUDA devices, too.
bool moves_cuda_memory(const transport& t);

}  // namespace weft::fabric
