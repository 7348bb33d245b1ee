// UCX as a benchmark of UCX would use it: one endpoint, one window of operations, nothing of weft in between.
#pragma once

#include <weft/base/error.hpp>

#include <ucp/api/ucp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace weft::bench {

class raw_ucx {
 public:
  // `transport`: "shm" or "tcp". Memory that the other side may read.
  static result<std::unique_ptr<raw_ucx>> make(const std::string& transport, std::size_t bytes);
  ~raw_ucx();
  raw_ucx(const raw_ucx&) = delete;
  raw_ucx& operator=(const raw_ucx&) = delete;

  // What the other side passes to `connect`; both do.
  std::string address() const;
  result<void> connect(const std::string& address);

  std::span<std::byte> memory() const { return memory_; }

  // Reads `count` pieces from offset `at` of the other side's memory to the same place of this one's.
  result<void> get(std::uint64_t at, std::size_t piece_bytes, std::size_t count);

  // Sends `count` pieces from offset `at` of this memory; the other side `receive`s them meanwhile and goes
  // on with `progress` until this has returned.
  result<void> send(std::uint64_t at, std::size_t piece_bytes, std::size_t count);
  result<void> receive(std::uint64_t at, std::size_t piece_bytes, std::size_t count);

  void progress() { ucp_worker_progress(worker_.get()); }

 private:
  raw_ucx() = default;

  result<void> start(const std::string& transport, std::size_t bytes);
  result<void> await(void* request);
  template <class Post>
  result<void> in_window(std::size_t count, Post post);
  ucs_status_t on_piece(void* data, std::size_t bytes, const ucp_am_recv_param_t& how);

  std::shared_ptr<ucp_context> context_;
  std::shared_ptr<ucp_worker> worker_;
  std::shared_ptr<ucp_mem> registration_;
  std::shared_ptr<ucp_ep> endpoint_;
  std::shared_ptr<ucp_rkey> remote_key_;
  std::span<std::byte> memory_;
  std::uint64_t remote_base_ = 0;

  // Of `receive`.
  std::uint64_t next_at_ = 0;
  std::size_t missing_pieces_ = 0;
};

}  // namespace weft::bench
